from test_crashes import *
import pytest
@pytest.mark.parametrize("k", range(2))
def test_stress(tmp_path, forge, k):
    data=tmp_path/"data"
    @in_loop
    async def check():
        async with sending() as (sender, gateway):
            for n in range(14):
                once=tmp_path/f"once{n}"; once.mkdir()
                step=["build.committed","build.commit_synced"][n%2]
                capture = forge.start("capture", data, kill_at=step+(":2" if n%3 else ""), once=once, **settings(gateway))
                await eventually((once / step).exists)
                for process in (capture, *archivers(data)):
                    kill(process)
                await forge.ended(capture)
                await gone(data)
                found = on_disk(data)
                segs=[p.name for p in data.rglob("*.seg")]; ps=[p.name for p in (data/"frames").rglob("*.parquet")]
                print(n, len(found), len(segs), len(ps), len([s for s in segs if any(p.startswith(s[:-4]) for p in ps)]))
    check()
