"""Getting to a network's chain, and what is missing where that cannot be."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from dsn.apps.chain.connect import need_library, open_chain
from dsn.config import ChainSettings
from dsn.errors import ConfigError
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ledger.typed import Domain
from tests.support.fraud_world import SIGNED_PARAMS
from tests.support.ledger_world import KEYS

KEY = KEYS["operator"]
NAMED = ChainSettings(rpc="http://127.0.0.1:1/secret")


async def code_of(settings: ChainSettings, params: LedgerParams = SIGNED_PARAMS) -> str:
    """The code of the error that opening ends with."""
    with pytest.raises(ConfigError) as caught:
        async with open_chain(settings, KEY, params):
            raise AssertionError("opened")
    return caught.value.detail_code


async def test_nothing_is_asked_before_the_first_call() -> None:
    async with open_chain(NAMED, KEY, SIGNED_PARAMS) as chain:
        assert chain.account == KEY.address


async def test_a_home_that_names_no_endpoint() -> None:
    assert await code_of(ChainSettings()) == "no_endpoint"


async def test_an_endpoint_that_is_none() -> None:
    assert await code_of(ChainSettings(rpc="ftp://127.0.0.1")) == "bad_setting"


async def test_a_network_without_a_chain() -> None:
    nowhere = Domain(SIGNED_PARAMS.domain.network, 0, NO_ADDRESS)
    assert await code_of(NAMED, replace(SIGNED_PARAMS, domain=nowhere)) == "no_chain"


async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "web3", None)
    assert await code_of(NAMED) == "missing_extra"
    with pytest.raises(ConfigError) as caught:
        need_library()
    assert "dsn[chain]" in caught.value.hint
