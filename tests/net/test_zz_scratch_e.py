import tempfile, pytest, asyncio
from pathlib import Path
from tests.support import attackers
from tests.support.node_process import *
async def test_it(tmp_path):
    attackers.KINDS=(attackers.slow,)
    home=prepare(tmp_path/"h")
    async with running_process(home) as node:
        b=node.peak_bytes()
        for _ in range(5):
            async with attackers.attacking(node.contact,node.network,100):
                pass
            await asyncio.sleep(2)
            rss=[l for l in Path(f"/proc/{node.process.pid}/status").read_text().splitlines() if "VmRSS" in l or "Threads" in l]
            print("RES", b>>20, node.peak_bytes()>>20, rss)
