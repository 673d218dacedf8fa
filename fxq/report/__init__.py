"""What became of a model: coverage with reasons, costs, and fusions."""

from fxq.report.coverage import Report, report
from fxq.report.kinds import Kind
from fxq.report.rows import Refusal, Row
from fxq.report.times import TimeProfile, TimeRow, profile
from fxq.report.totals import ReasonGroup, Totals

__all__ = ["Kind", "ReasonGroup", "Refusal", "Report", "Row", "TimeProfile", "TimeRow", "Totals", "profile", "report"]
