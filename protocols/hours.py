"""Hours of a day, such as 22:00-06:00, in which an institution allows its machine to train."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` on and before `end`, by the clock on the wall; over midnight where the end is the earlier one."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Raises ValueError unless it is two different times of a day, as in 22:00-06:00."""
        found = _SPAN.fullmatch(text)
        if found is None:
            raise ValueError("write two times of a day, as in 22:00-06:00, or leave it empty")
        hours = cls(time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4])))
        if hours.start == hours.end:
            raise ValueError("begin and end are the same time; leave it empty to allow every hour")
        return hours

    def cover(self, moment: datetime) -> bool:
        """Whether a moment of the institution's own time lies within."""
        now = moment.time().replace(tzinfo=None)
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.end:%H:%M}"
