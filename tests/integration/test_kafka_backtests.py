"""Backtests over topics and recordings give the output hash of the data set that was published.

Daily bars of two instruments end at one instant, in two partitions, and begin with their session.
"""

from __future__ import annotations

import json

from tests.simulation.kafka_session import Commands

# Two positions of 80 % each do not fit into the cash: who comes first gets it.
STRATEGY = """
from millrace import Strategy


class Both(Strategy):
    def on_bar(self, bar):
        self.target_weight(bar.instrument_id, 0.8 if bar.close > bar.open else 0.0)
"""
SETTINGS = '[account]\nkind = "CASH"\ncash = "10000"\n'
LATENCY = '{"latency": {"submit_ns": 60000000000}}'
YEARS = ("--from", "2010-01-01", "--to", "2011-06-30")
HALF_DAY = ("--symbols", "SPY", "--from", "2002-12-20", "--to", "2003-01-05")


async def test_topics_and_recordings_give_the_hash_of_the_data_set(commands: Commands) -> None:
    strategy, settings = commands.folder / "both.py", commands.folder / "cash.toml"
    strategy.write_text(STRATEGY)
    settings.write_text(SETTINGS)
    recording = commands.folder / "recording"
    await commands.apply_topics()
    await commands.run("publish", "daily", "--speed", "0")
    await commands.run("record", str(recording))
    runs = (
        (f"{strategy}:Both", *YEARS, "--config", str(settings)),
        (f"{strategy}:Both", *YEARS, "--config", str(settings), "--venue", LATENCY),
        ("buy_and_hold", *HALF_DAY),
    )
    for strategy_name, *options in runs:
        found = []
        for source in (("--data", "daily"), ("--from-kafka",), ("--data", str(recording))):
            text = await commands.run(
                "backtest", "--json", "--strategy", strategy_name, *options, *source
            )
            report = json.loads(text.splitlines()[-1])
            found.append((report["manifest"]["output_hash"], report["metrics"]["final_equity"]))
            assert report["metrics"]["fills"] > 0
        assert found == [found[0]] * 3, (strategy_name, options)
