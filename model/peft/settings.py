"""What an `adapter_config.json` of peft says that decides the adapter's function; what is not understood is refused. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from model.layout import AdapterError, matches_end

# Targets and ranks show in the tensors themselves; the rest is about training, loading or other modules than the adapter's.
_TRAINING = {"task_type", "inference_mode", "lora_dropout", "eva_config", "runtime_config", "peft_version"}
_LOADING = {"auto_mapping", "base_model_name_or_path", "revision", "megatron_core", "qalora_group_size", "ensure_weight_tying"}
_TARGETS = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern"}
_WITHOUT_EFFECT = frozenset(_TRAINING | _LOADING | _TARGETS)


class PeftSettings(BaseModel):
    """The fields that matter; any other that is set and not known to be without effect is refused by `read_settings`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Literal["LORA"]
    r: int = Field(default=8, ge=1, le=2**31)
    lora_alpha: float = Field(default=8, gt=0, allow_inf_nan=False)
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: Literal[True, False, None, "gaussian", "orthogonal", "eva"] = True  # others change the base's weights
    alpha_pattern: dict[str, FiniteFloat] | None = None
    target_parameters: list[str] | None = None

    def scaling(self, name: str, rank: int) -> float:
        """The factor of B A on the module or parameter `name`: the first pattern that equals the end of its name gives alpha."""
        patterns = self.alpha_pattern or {}
        alpha = next((patterns[key] for key in patterns if matches_end(key, name)), self.lora_alpha)
        return alpha / self.divisor(rank)

    def divisor(self, rank: int) -> float:
        """r, and sqrt(r) with rank-stabilised LoRA (Kalajdzievski 2023)."""
        return math.sqrt(rank) if self.use_rslora else rank

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
            matches_end(pattern, "")
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        raise AdapterError(f"adapter_config.json: {field} is {_shown(content.get(field))}, which is not read here; {_ADVICE}.") from None
    except AdapterError as error:
        raise AdapterError(f"adapter_config.json: alpha_pattern: {error}") from None
    for field, value in (settings.model_extra or {}).items():
        if value and field not in _WITHOUT_EFFECT:
            raise AdapterError(f"adapter_config.json: {field} is {_shown(value)}, which is not read here; {_ADVICE}.")
    return settings


_ADVICE = "give a plain LoRA adapter (peft_type LORA, bias none, no variant)"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
