"""What a person looks at: the report of an evaluation and the display of a single shower."""

from anycalo.report.display import event_display
from anycalo.report.pairs import write_separation
from anycalo.report.report import check_folder, write_report
from anycalo.report.speed import write_speed

__all__ = ["check_folder", "event_display", "write_report", "write_separation", "write_speed"]
