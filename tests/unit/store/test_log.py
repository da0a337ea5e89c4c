"""The log: what is written is found again, whatever happens to the bytes around it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dsn.errors import ShardCorrupt
from dsn.store.changes import Encoded
from dsn.store.log import Log, key_of_segment, segment_header
from dsn.store.state import Place, Position

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
HEADER = 64


def write(log: Log, *changes: Encoded) -> list[Place]:
    places = [log.place(each) for each in changes]
    log.write(list(zip(places, changes, strict=True)))
    return places


def contents(log: Log) -> list[tuple[Place, Encoded]]:
    return [
        (found.place, found.encoded) for segment in log.segments() for found in log.scan(segment)
    ]


def some(count: int, size: int = 50) -> list[Encoded]:
    random = Random(count * size)
    return [
        Encoded(kind + 1, random.randbytes(random.randrange(size)), random.randbytes(size))
        for kind in range(count)
    ]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path, KEY, segment_bytes=1_000)


def test_changes_are_read_where_they_were_placed(log: Log, tmp_path: Path) -> None:
    changes = some(20)
    places = write(log, *changes[:5]) + write(log, *changes[5:])
    assert [log.read(place) for place in places] == changes
    assert contents(log) == list(zip(places, changes, strict=True))
    assert len(log.segments()) > 2
    assert log.end == Position(places[-1].segment, places[-1].end)
    again = Log(tmp_path, KEY, segment_bytes=1_000)
    assert (again.end, again.active) == (log.end, log.active)
    later = write(again, *some(3))
    assert contents(log)[-3:] == list(zip(later, some(3), strict=True))


def test_segments_stay_within_their_size_unless_one_change_is_longer(log: Log) -> None:
    write(log, *some(30))
    [place] = write(log, Encoded(1, b"", bytes(5_000)))
    assert place.offset == HEADER
    assert all(log.size(n) <= 1_000 for n in log.segments()[:-1])


def test_forgotten_places_are_given_again(log: Log) -> None:
    first = log.place(Encoded(1, b"", b""))
    log.forget()
    assert log.place(Encoded(1, b"", b"")) == first


def test_a_write_that_fails_is_taken_back(log: Log, tmp_path: Path) -> None:
    places, changes = write(log, *some(2)), some(40)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "00000003.log").mkdir()  # the system cannot open it as a file
    with pytest.raises(IsADirectoryError):
        write(log, *changes)
    log.forget()
    (tmp_path / "00000003.log").rmdir()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert write(log, *changes)[0].offset == places[-1].end


@pytest.mark.parametrize("at", range(160))
def test_a_flipped_bit_is_never_read(log: Log, tmp_path: Path, at: int) -> None:
    changes = [Encoded(1, b"h" * 5, b"b" * 60), Encoded(2, b"h" * 10, b"b" * 20)]
    places = write(log, *changes)
    path = tmp_path / "00000001.log"
    raw = bytearray(path.read_bytes())
    raw[HEADER + at] ^= 1 << (at % 8)
    path.write_bytes(raw)
    hit = places[0] if HEADER + at < places[0].end else places[1]
    with pytest.raises(ShardCorrupt):
        log.read(hit)
    scan = log.scan(1)
    whole = [found.place for found in scan if found.sound]
    assert whole == [place for place in places if place != hit]


def test_a_head_outlives_its_body(log: Log, tmp_path: Path) -> None:
    [place] = write(log, Encoded(1, b"head", b"body"))
    path = tmp_path / "00000001.log"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    [found] = log.scan(1)
    assert (found.place, found.encoded, found.sound) == (place, Encoded(1, b"head", b""), False)


def test_every_truncation_leaves_what_stands_before_it(log: Log, tmp_path: Path) -> None:
    changes = some(6, 30)
    places = write(log, *changes)
    path = tmp_path / "00000001.log"
    raw = path.read_bytes()
    for length in range(len(raw) + 1):
        path.write_bytes(raw[:length])
        scan = log.scan(1)
        assert [found.place for found in scan] == [p for p in places if p.end <= length]
        assert scan.damaged == 0
        assert scan.end == max((p.end for p in places if p.end <= length), default=HEADER)


def test_damage_in_the_middle_costs_only_what_it_hits(log: Log, tmp_path: Path) -> None:
    places = write(log, *some(8, 30))
    path = tmp_path / "00000001.log"
    raw = bytearray(path.read_bytes())
    raw[places[3].offset : places[4].end] = bytes(places[3].size + places[4].size)
    path.write_bytes(raw)
    scan = log.scan(1)
    assert [found.place for found in scan] == places[:3] + places[5:]
    assert scan.damaged == 1


def test_stored_bytes_cannot_pose_as_a_change(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    theirs, log = Log(tmp_path / "theirs", OTHER_KEY), Log(tmp_path / "ours", KEY)
    # The client knows the format and where its bytes will stand, but not the key.
    body_at = HEADER + 48
    write(theirs, Encoded(1, b"", bytes(body_at - HEADER - 48)), Encoded(4, b"drop all", b""))
    forged = (tmp_path / "theirs" / "00000001.log").read_bytes()[body_at:]
    write(log, Encoded(1, b"", forged), Encoded(1, b"", b"honest"))
    path = tmp_path / "ours" / "00000001.log"
    raw = bytearray(path.read_bytes())
    raw[HEADER] ^= 1  # the header before the forgery rots, so its bytes are searched
    path.write_bytes(raw)
    assert [found.encoded.body for found in log.scan(1)] == [b"honest"]


def test_a_change_copied_elsewhere_does_not_count(log: Log, tmp_path: Path) -> None:
    [place] = write(log, Encoded(4, b"revision", b""))
    path = tmp_path / "00000001.log"
    raw = path.read_bytes()
    path.write_bytes(raw + raw[place.offset :])
    assert [found.place for found in log.scan(1)] == [place]
    (tmp_path / "00000002.log").write_bytes(raw)
    assert list(log.scan(2)) == []


def test_a_torn_write_is_cut_off(log: Log, tmp_path: Path) -> None:
    places = write(log, *some(3))
    log.truncate(1, places[1].end)
    assert (log.size(1), log.end) == (places[1].end, Position(1, places[1].end))
    log.truncate(1, HEADER)
    assert (log.segments(), log.end) == ([], Position(0, 0))
    assert write(log, *some(1))[0] == Place(1, HEADER, places[0].size) or places[0].size


def test_the_key_can_be_read_from_any_sound_segment() -> None:
    header = segment_header(KEY)
    assert len(header) == HEADER
    assert key_of_segment(header + b"more") == KEY
    for at in range(HEADER):
        flipped = bytes(byte ^ (index == at) for index, byte in enumerate(header))
        assert key_of_segment(flipped) is None
        assert key_of_segment(header[:at]) is None


def test_removed_segments_are_gone(log: Log) -> None:
    places = write(log, *some(30))
    log.remove(1)
    assert 1 not in log.segments()
    with pytest.raises(FileNotFoundError):
        log.read(places[0])
