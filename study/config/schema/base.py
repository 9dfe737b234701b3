"""Types that the settings share."""
from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field


class Settings(pydantic.BaseModel):
    """A section of settings: immutable, and strict about its keys. The docstring under a field describes the field."""
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(),
                                       use_attribute_docstrings=True)


def complete(*names: str) -> AfterValidator:
    """A validator for mappings that requires a value for each of these keys."""
    def check(value: dict) -> dict:
        if missing := [name for name in names if name not in value]:
            raise ValueError(f"missing key {missing[0]}")
        return value
    return AfterValidator(check)


def unique_values(values: list, what: str = "") -> list:
    """Returns the values. Raises ValueError if one is listed twice; `what` says what they are."""
    if repeated := [value for index, value in enumerate(values) if value in values[:index]]:
        raise ValueError(f"{what} {repeated[0]!r} is listed twice".strip())
    return values


def _quoted(value: object) -> object:
    """Returns the value. Raises ValueError for true and false, which are words without quotes."""
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on and off as true and false; put quotes around such words")
    return value


Word = Annotated[str, BeforeValidator(_quoted)]
unique = AfterValidator(lambda values: unique_values(values))


def _relative(value: str) -> str:
    if value.startswith(("/", "~")) or ".." in value.replace("\\", "/").split("/"):
        raise ValueError("must be a path inside the data folder: no leading / or ~, and no ..")
    return value


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="lower-case letters, digits and hyphens")]
RelativePath = Annotated[str, AfterValidator(_relative)]
TRAIN_VALIDATION_TEST = complete("train", "validation", "test")
TRAIN_TEST = complete("train", "test")
