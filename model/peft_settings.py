"""What an `adapter_config.json` of peft says that decides the adapter's function; what is not understood is refused. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.layout import AdapterError

# Targets and ranks show in the tensors themselves; the rest is about training, loading or other modules than the adapter's.
_WITHOUT_EFFECT = frozenset(
    "task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules exclude_modules lora_dropout "
    "layers_to_transform layers_pattern rank_pattern megatron_core qalora_group_size eva_config runtime_config ensure_weight_tying".split()
)


class PeftSettings(BaseModel):
    """The fields that matter; any other that is set and not known to be without effect is refused by `read_settings`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Literal["LORA"]
    r: int = Field(default=8, ge=1)
    lora_alpha: float = Field(default=8, allow_inf_nan=False)
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: Literal[True, False, None, "gaussian", "orthogonal", "eva"] = True  # others change the base's weights
    alpha_pattern: dict[str, float] | None = None
    target_parameters: list[str] | None = None

    def scaling(self, name: str, rank: int) -> float:
        """The factor of B A on the module or parameter `name`: the first pattern that equals the end of its name gives alpha."""
        patterns = self.alpha_pattern or {}
        alpha = next((patterns[key] for key in patterns if re.match(rf"(.*\.)?({key})$", name)), self.lora_alpha)
        return self.per_alpha(rank) * alpha

    def per_alpha(self, rank: int) -> float:
        """1 / r, and 1 / sqrt(r) with rank-stabilised LoRA (Kalajdzievski 2023)."""
        return 1 / math.sqrt(rank) if self.use_rslora else 1 / rank

    def name_of(self, module: str) -> str:
        """The name that patterns are matched with: that of the weight where `target_parameters` names it."""
        weight = f"{module}.weight"
        named = any(f".{weight}".endswith(f".{target}") for target in self.target_parameters or ())
        return weight if named else module


def read_settings(content: Mapping[str, Any]) -> PeftSettings:
    """Reads the content of an `adapter_config.json`.

    Raises:
        AdapterError: another method than LoRA, or a field that changes what is computed in a way that is not known here.
    """
    try:
        settings = PeftSettings.model_validate(dict(content))
        for pattern in settings.alpha_pattern or ():
            re.compile(pattern)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise AdapterError(f"adapter_config.json: {field} is {_shown(content.get(field))}, which is not read here; {_ADVICE}.") from None
    except re.error as error:
        raise AdapterError(f"adapter_config.json: alpha_pattern holds no regular expression ({error}): correct it.") from None
    for field, value in (settings.model_extra or {}).items():
        if value and field not in _WITHOUT_EFFECT:
            raise AdapterError(f"adapter_config.json: {field} is {_shown(value)}, which is not read here; {_ADVICE}.")
    return settings


_ADVICE = "give a plain LoRA adapter (peft_type LORA, bias none, no variant)"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
