"""What became of a model: coverage with reasons, costs and fusions; where its time goes; what each layer loses."""

from fxq.report.closeness import Closeness
from fxq.report.compare import compare
from fxq.report.comparison import Comparison, LayerComparison
from fxq.report.coverage import Report, report
from fxq.report.diff import diff
from fxq.report.difference import Difference
from fxq.report.kinds import Kind
from fxq.report.rows import Refusal, Row
from fxq.report.times import TimeProfile, TimeRow, profile
from fxq.report.totals import ReasonGroup, Totals

__all__ = [
    "Closeness",
    "Comparison",
    "Difference",
    "Kind",
    "LayerComparison",
    "ReasonGroup",
    "Refusal",
    "Report",
    "Row",
    "TimeProfile",
    "TimeRow",
    "Totals",
    "compare",
    "diff",
    "profile",
    "report",
]
