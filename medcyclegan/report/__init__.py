"""Reports: a self-contained HTML page about a run, an evaluation or a translation, which works offline."""

from medcyclegan.report.write import ReportOptions, write_report

__all__ = ["ReportOptions", "write_report"]
