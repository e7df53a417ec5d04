"""What an alarm watches and when it is one.

Follows "Using Amazon CloudWatch alarms" of the CloudWatch user guide and ``PutMetricAlarm`` of its API reference.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECONDS_KEPT_MS
from streamkit.metrics.statistic import HUNDRED_PERCENT, CompiledStatistic, compile_statistic

AlarmState = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
"""What an alarm says."""

ComparisonOperator = Literal[
    "GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"
]
"""How a datapoint has to compare with the threshold to breach it."""

TreatMissingData = Literal["missing", "notBreaching", "breaching", "ignore"]
"""What a period without data counts as, where there is too little data to decide without it."""

EvaluateLowSampleCountPercentile = Literal["evaluate", "ignore"]
"""Whether an alarm on a percentile is evaluated when a period has too few samples to tell that percentile."""

RANGE_BEYOND = 2
"""Periods looked at beyond ``evaluation_periods``, to reach past gaps: CloudWatch's examples show 5 for 3."""

_SHORT_PERIODS = (10, 20, 30)
_WEEK = 7 * 86_400
_DAY = 86_400


class _Named(msgspec.Struct, frozen=True):
    name: str
    """1 to 255 characters."""


class Alarm(_Named, frozen=True, kw_only=True):
    """Watches one statistic of one metric against a threshold.

    ::

        Alarm("emails-are-dying", metric=dead.metric("ApproximateNumberOfMessagesVisible"), statistic="Maximum",
            period=60, threshold=0, comparison="GreaterThanThreshold", treat_missing_data="notBreaching")

    Raises:
        ValidationError: A field has a value CloudWatch refuses, or that could never be evaluated; the message says
            which, and what to choose.
    """

    metric: Metric
    statistic: str
    """A plain or extended one, such as ``"Average"``, ``"p99"`` or ``"TM(10%:90%)"``: see ``compile_statistic``."""
    period: int
    """Seconds of one datapoint: 10, 20, 30 or a multiple of 60."""
    evaluation_periods: int = 1
    """How many of the latest datapoints decide (N)."""
    datapoints_to_alarm: int | None = None
    """How many of those have to breach (M of N); None means all of them."""
    threshold: float
    comparison: ComparisonOperator
    treat_missing_data: TreatMissingData = "missing"
    evaluate_low_sample_count_percentile: EvaluateLowSampleCountPercentile = "evaluate"
    """``"ignore"`` keeps the state while the newest datapoint is a percentile of too few samples. Percentiles only."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 255:
            raise ValidationError(f"alarm name is {self.name!r}: use 1 to 255 characters")
        compiled = compile_statistic(self.statistic)
        if not isinstance(self.period, int) or not (
            self.period in _SHORT_PERIODS or (self.period > 0 and self.period % 60 == 0)
        ):
            raise self._wrong(f"period is {self.period!r} seconds", "choose 10, 20, 30 or a multiple of 60")
        if not isinstance(self.evaluation_periods, int) or self.evaluation_periods < 1:
            raise self._wrong(f"evaluation_periods is {self.evaluation_periods!r}", "choose 1 or more")
        if not isinstance(self.needed, int) or not 1 <= self.needed <= self.evaluation_periods:
            raise self._wrong(
                f"datapoints_to_alarm is {self.datapoints_to_alarm!r}",
                f"choose 1 to evaluation_periods, which is {self.evaluation_periods}",
            )
        self._check_span()
        if not isinstance(self.threshold, int | float) or not math.isfinite(self.threshold):
            raise self._wrong(f"threshold is {self.threshold!r}", "choose a finite number")
        self._check_choice("comparison", self.comparison, get_args(ComparisonOperator))
        self._check_choice("treat_missing_data", self.treat_missing_data, get_args(TreatMissingData))
        low = self.evaluate_low_sample_count_percentile
        self._check_choice("evaluate_low_sample_count_percentile", low, get_args(EvaluateLowSampleCountPercentile))
        # Of p0 and p100 any number of samples is too few: such an alarm would never change.
        if low == "ignore" and (compiled.kind != "p" or compiled.upper in (0, HUNDRED_PERCENT)):
            raise self._wrong(
                f"evaluate_low_sample_count_percentile is {low!r} and statistic is {self.statistic!r}",
                "choose a percentile between p0 and p100, such as 'p99', or leave the former out",
            )

    @property
    def needed(self) -> int:
        """How many of the evaluated datapoints have to breach: ``datapoints_to_alarm``, or all."""
        return self.evaluation_periods if self.datapoints_to_alarm is None else self.datapoints_to_alarm

    @property
    def compiled(self) -> CompiledStatistic:
        """``statistic``, to be asked of samples."""
        return compile_statistic(self.statistic)

    @property
    def range_periods(self) -> int:
        """How many periods an evaluation looks at."""
        return self.evaluation_periods + RANGE_BEYOND

    def breaches(self, value: float) -> bool:
        """Whether a datapoint of this value breaches the threshold."""
        match self.comparison:
            case "GreaterThanOrEqualToThreshold":
                return value >= self.threshold
            case "GreaterThanThreshold":
                return value > self.threshold
            case "LessThanThreshold":
                return value < self.threshold
            case "LessThanOrEqualToThreshold":
                return value <= self.threshold

    def _check_span(self) -> None:
        span = self.evaluation_periods * self.period
        longest = _WEEK if self.period >= 3600 else _DAY
        advice = f"choose at most {longest // 86_400} day(s) for this period"
        # CloudWatch allows a day here, but with data of less than a minute gone after three hours the rest of that day
        # would always be missing: better refused than evaluated as something else than was asked for.
        kept = SECONDS_KEPT_MS // 1000
        if self.period < 60 and self.range_periods * self.period > kept:
            longest = kept - RANGE_BEYOND * self.period
            advice = f"periods under 60 seconds are kept 3 hours: choose at most {longest} seconds, or a longer period"
        if span > longest:
            raise self._wrong(f"evaluation_periods times period is {span} seconds", advice)

    def _check_choice(self, field: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise self._wrong(f"{field} is {value!r}", f"choose one of {', '.join(choices)}")

    def _wrong(self, what: str, advice: str) -> ValidationError:
        return ValidationError(f"alarm {self.name!r}: {what}: {advice}")
