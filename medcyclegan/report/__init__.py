"""Reports: one HTML file for a run, an evaluation or a translation, complete in itself and offline."""

from medcyclegan.report.write import ReportOptions, write_report

__all__ = ["ReportOptions", "write_report"]
