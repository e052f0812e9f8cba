"""The base of every section of the configuration."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from e911.location import CivicAddress


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        """An empty `sites:` is as good as none where a list, map or section is empty by default."""
        if not isinstance(value, dict) or None not in value.values():
            return value
        return {key: item for key, item in value.items() if item is not None or not cls._may_be_empty(key)}

    @classmethod
    def _may_be_empty(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        if field is None or field.default_factory is None:
            return False
        default = field.get_default(call_default_factory=True)
        return default in ([], {}) or isinstance(default, (Section, CivicAddress))
