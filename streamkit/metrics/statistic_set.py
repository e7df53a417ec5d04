"""What five numbers tell of some samples, as ``StatisticSet`` in the CloudWatch API reference. Pure."""

from __future__ import annotations

import msgspec

from streamkit.errors import ValidationError
from streamkit.metrics.metric import Statistic, check_statistic

LARGEST_VALUE = 2.0**360
"""What CloudWatch takes; sums of such values are still finite."""
LARGEST_COUNT = 2**40
"""Samples that can be reported at once: the count of a bucket has 63 bits."""
_SLACK = 1e-6
"""By how much of the largest possible one a reported sum may be off: other programs add up in another order."""


class StatisticSet(msgspec.Struct, frozen=True, gc=False):
    """What is known of some samples, of which there is at least one."""

    sample_count: int
    sum: float
    minimum: float
    maximum: float

    def merge(self, other: StatisticSet) -> StatisticSet:
        """What is known of the samples of both."""
        return StatisticSet(
            self.sample_count + other.sample_count,
            self.sum + other.sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    def value(self, statistic: Statistic) -> float:
        """One statistic of the samples.

        Raises:
            ValidationError: ``statistic`` is not one of ``metric.STATISTICS``.
        """
        check_statistic(statistic)
        match statistic:
            case "SampleCount":
                return self.sample_count
            case "Sum":
                return self.sum
            case "Average":
                return self.sum / self.sample_count
            case "Minimum":
                return self.minimum
            case "Maximum":
                return self.maximum


def check_sample(subject: object, value: float, count: int = 1) -> None:
    """Accept ``count`` samples of ``value``.

    Raises:
        ValidationError: ``value`` is not a number within ±2^360, or ``count`` not a whole one from 1 to 2^40; the
            message names ``subject``.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= LARGEST_COUNT:
        raise ValidationError(f"{subject}: a count of {count!r} samples: put a whole number from 1 to 2^40")
    # NaN fails every comparison, so this one refuses it together with the infinities.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST_VALUE <= value <= LARGEST_VALUE:
        raise ValidationError(f"{subject}: {value!r} is not a number within ±2^360, so it cannot be a sample")


def check_statistic_set(subject: object, found: StatisticSet) -> None:
    """Accept a statistic set that samples can have.

    AWS: takes some that no samples have, such as one sample whose minimum is not its maximum.

    Raises:
        ValidationError: A value is not within ±2^360, the minimum is over the maximum, or the sum is not what
            ``sample_count`` samples between them can have.
    """
    for value in (found.minimum, found.maximum):
        check_sample(subject, value, found.sample_count)
    if found.minimum > found.maximum:
        raise ValidationError(f"{subject}: minimum {found.minimum!r} is over maximum {found.maximum!r}: swap them")
    if found.sample_count == 1 and found.minimum != found.maximum:
        raise ValidationError(f"{subject}: one sample has one value: make sum, minimum and maximum that")
    least, most = found.sample_count * found.minimum, found.sample_count * found.maximum
    slack = _SLACK * max(abs(least), abs(most))
    number = isinstance(found.sum, int | float) and not isinstance(found.sum, bool)
    if not number or not least - slack <= found.sum <= most + slack:
        raise ValidationError(
            f"{subject}: {found.sample_count} samples from {found.minimum!r} to {found.maximum!r} cannot have the sum "
            f"{found.sum!r}: give one from {least!r} to {most!r}"
        )
