"""A finished backtest as one page, ``report.html``: people look where programs read.

``write_report`` is the way in. The page is made of nothing but the files and the manifest of its
run, so the same run gives the same bytes; it loads nothing and runs no script, so it can be sent
around.

    curves    equity.csv as few points and months, read piece by piece
    trades    the largest closed trades of trades.csv
    ticks     round steps of values and times
    plots     curves as SVG
    tables    figures and tables as HTML
    page      the whole
"""

from infra.report.page import REPORT_NAME, Told, write_report

__all__ = ["REPORT_NAME", "Told", "write_report"]
