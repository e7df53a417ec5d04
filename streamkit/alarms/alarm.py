"""What an alarm watches and when it is one.

Follows "Using Amazon CloudWatch alarms" of the CloudWatch user guide and ``PutMetricAlarm`` of its API reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
from msgspec.structs import force_setattr

from streamkit.errors import ValidationError
from streamkit.metrics.math_query import MetricQueries, MetricQuery, check_alarm
from streamkit.metrics.metric import Metric
from streamkit.metrics.periods import SECONDS_KEPT_MS
from streamkit.metrics.statistic import HUNDRED_PERCENT, CompiledStatistic, compile_statistic
from streamkit.metrics.unit import Unit, check_unit

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

MAX_DESCRIPTION_LENGTH = 1024

_SHORT_PERIODS = (10, 20, 30)
_ALWAYS_IGNORED = "AWS/DynamoDB"
_WEEK = 7 * 86_400
_DAY = 86_400


class _Named(msgspec.Struct, frozen=True):
    name: str
    """1 to 255 characters."""


class Alarm(_Named, frozen=True, kw_only=True):
    """Watches one statistic of one metric, or an expression over several, against a threshold.

    ::

        Alarm("emails-are-dying", metric=dead.metric("ApproximateNumberOfMessagesVisible"), statistic="Maximum",
            period=60, threshold=0, comparison="GreaterThanThreshold", treat_missing_data="notBreaching")

        Alarm("too-many-errors", threshold=5, comparison="GreaterThanThreshold", metrics=[
            MetricQuery(id="errors", metric=errors, statistic="Sum", period=60, return_data=False),
            MetricQuery(id="calls", metric=calls, statistic="Sum", period=60, return_data=False),
            MetricQuery(id="percent", expression="100 * errors / calls")])

    What is done at a change is given to ``kit.start``. AWS: there are tags as well, which would mean nothing here.

    Raises:
        ValidationError: A field has a value CloudWatch refuses, or that could never be evaluated; the message says
            which, and what to choose.
    """

    metric: Metric | None = None
    """Which one; with ``statistic`` and ``period``. None: ``metrics`` say what is watched."""
    statistic: str | None = None
    """A plain or extended one, such as ``"Average"``, ``"p99"`` or ``"TM(10%:90%)"``: see ``compile_statistic``."""
    period: int | None = None
    """Seconds of one datapoint: 10, 20, 30 or a multiple of 60. None: ``metrics`` have it."""
    unit: Unit | None = None
    """Only samples of this unit; None: of the unit that the metric had first."""
    metrics: Sequence[MetricQuery] = ()
    """Metric math instead of one metric: up to 10 metrics of one period and any expressions, of which exactly one has
    ``return_data=True`` (the default) and is what is compared. Kept as a tuple."""
    evaluation_periods: int = 1
    """How many of the latest datapoints decide (N)."""
    datapoints_to_alarm: int | None = None
    """How many of those have to breach (M of N); None means all of them."""
    threshold: float
    comparison: ComparisonOperator
    treat_missing_data: TreatMissingData = "missing"
    """Of metrics of ``AWS/DynamoDB``, which tables publish, missing data is always ignored."""
    evaluate_low_sample_count_percentile: EvaluateLowSampleCountPercentile = "evaluate"
    """``"ignore"`` keeps the state while the newest datapoint is a percentile of too few samples. Percentiles only."""
    description: str = ""
    """Up to 1,024 characters, for whoever is woken by it."""
    actions_enabled: bool = True
    """False: the state changes and nothing is called."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 255:
            raise ValidationError(f"alarm name is {self.name!r}: use 1 to 255 characters")
        self._check_watched()
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
        if low == "ignore":
            self._check_percentile(low)
        if not isinstance(self.description, str) or len(self.description) > MAX_DESCRIPTION_LENGTH:
            raise self._wrong("description is no text or too long", f"use up to {MAX_DESCRIPTION_LENGTH:,} characters")
        if not isinstance(self.actions_enabled, bool):
            raise self._wrong(f"actions_enabled is {self.actions_enabled!r}", "choose True or False")

    @property
    def needed(self) -> int:
        """How many of the evaluated datapoints have to breach: ``datapoints_to_alarm``, or all."""
        return self.evaluation_periods if self.datapoints_to_alarm is None else self.datapoints_to_alarm

    @property
    def period_ms(self) -> int:
        """What one datapoint covers, in milliseconds: ``period``, or that of ``metrics``."""
        return round((self.period or self._math_period) * 1000)

    @property
    def missing_data_treatment(self) -> TreatMissingData:
        """What is done about missing data. AWS: alarms on metrics of ``AWS/DynamoDB`` ignore it, whatever they say."""
        watched = [self.metric] if self.metric is not None else [query.metric for query in self.metrics]
        if any(metric is not None and metric.namespace == _ALWAYS_IGNORED for metric in watched):
            return "ignore"
        return self.treat_missing_data

    @property
    def compiled(self) -> CompiledStatistic | None:
        """``statistic``, to be asked of samples; None: there are ``metrics``."""
        return None if self.statistic is None else compile_statistic(self.statistic)

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

    @property
    def _math_period(self) -> float:
        return next(query.period for query in self.metrics if query.metric is not None and query.period is not None)

    def _check_watched(self) -> None:
        force_setattr(self, "metrics", tuple(self.metrics))
        alone = {"metric": self.metric, "statistic": self.statistic, "period": self.period}
        if self.metrics:
            given = [name for name, value in {**alone, "unit": self.unit}.items() if value is not None]
            if given:
                raise self._wrong(f"it has metrics and also {', '.join(given)}", "leave one of both out")
            try:
                check_alarm(MetricQueries(self.metrics))
            except ValidationError as error:
                raise ValidationError(f"alarm {self.name!r}: {error}") from error
            self._check_period(self._math_period)
            return
        lacking = [name for name, value in alone.items() if value is None]
        if lacking:
            advice = "give metric, statistic and period, or metrics for metric math"
            raise self._wrong(f"it has no {' and no '.join(lacking)}", advice)
        compile_statistic(self.statistic or "")
        self._check_period(self.period)
        if not isinstance(self.period, int):
            raise self._wrong(f"period is {self.period!r} seconds", "choose 10, 20, 30 or a multiple of 60")
        if self.unit is not None:
            check_unit(self.unit)

    def _check_period(self, period: object) -> None:
        if not isinstance(period, int | float) or not (period in _SHORT_PERIODS or (period > 0 and period % 60 == 0)):
            raise self._wrong(f"period is {period!r} seconds", "choose 10, 20, 30 or a multiple of 60")

    def _check_percentile(self, low: str) -> None:
        compiled = self.compiled
        # Of p0 and p100 any number of samples is too few: such an alarm would never change.
        if compiled is None or compiled.kind != "p" or compiled.upper in (0, HUNDRED_PERCENT):
            raise self._wrong(
                f"evaluate_low_sample_count_percentile is {low!r} and statistic is {self.statistic!r}",
                "choose a percentile between p0 and p100, such as 'p99', or leave the former out",
            )

    def _check_span(self) -> None:
        period = self.period_ms // 1000
        span = self.evaluation_periods * period
        longest = _WEEK if period >= 3600 else _DAY
        advice = f"choose at most {longest // 86_400} day(s) for this period"
        # CloudWatch allows a day here, but with data of less than a minute gone after three hours the rest of that day
        # would always be missing: better refused than evaluated as something else than was asked for.
        kept = SECONDS_KEPT_MS // 1000
        if period < 60 and self.range_periods * period > kept:
            longest = kept - RANGE_BEYOND * period
            advice = f"periods under 60 seconds are kept 3 hours: choose at most {longest} seconds, or a longer period"
        if span > longest:
            raise self._wrong(f"evaluation_periods times period is {span} seconds", advice)

    def _check_choice(self, field: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise self._wrong(f"{field} is {value!r}", f"choose one of {', '.join(choices)}")

    def _wrong(self, what: str, advice: str) -> ValidationError:
        return ValidationError(f"alarm {self.name!r}: {what}: {advice}")
