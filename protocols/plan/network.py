"""What is fine-tuned: the base, how records become text, and which parts of the network are trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from protocols.plan.table import Fraction, PositiveFloat, PositiveInt, Table, Texts


class Base(Table):
    """The checkpoint that every institution holds, by name and content."""

    name: str = Field(min_length=1, description="a name that each institution binds to a directory; a path is for simulate")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="the checkpoint's hash; empty takes the hash found at the start")


class RecordTemplates(Table):
    """How a record becomes text; `{field}`, `{{` and `}}` alone."""

    prompt: str = Field("", description="text given to the model, with {field}s of the record")
    target: str = Field("", description="text that the model learns to continue with; the loss is on it alone")
    messages: str = Field("", description="instead of prompt and target: the field that holds chat messages")
    max_tokens: PositiveInt = Field(256, description="longest record in tokens, prompt and target together")
    too_long: Literal["error", "truncate", "drop"] = Field("error", description="what happens to a longer record")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.messages) == bool(self.prompt or self.target):
            raise ValueError("give either prompt and target, or messages")
        if not self.messages and not (self.prompt and self.target):
            raise ValueError("prompt and target are both needed")
        return self


class Trainable(Table):
    """Which parts of the network are trained."""

    lora_rank: PositiveInt = Field(8, description="rank of LoRA on the targets")
    lora_alpha: PositiveFloat = Field(16, description="LoRA scale: alpha / rank")
    targets: Texts = Field(
        ("attention", "shared_experts", "dense_mlp", "lm_head"),
        description="attention, shared_experts, dense_mlp, lm_head, embeddings, or exact module names",
    )
    embedding_mode: Literal["full", "lora"] = Field(
        "full", description="whether embeddings among the targets are trained in full or by LoRA"
    )
    ranks: Literal["equal", "nested"] = Field(
        "equal", description="nested: an institution trains the leading slices that its hardware.max_rank allows"
    )
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict, description="module name = rank, where it differs")
    experts: Literal["none", "all", "esft-token", "esft-gate"] = Field("esft-token", description="which routed experts are adapted")
    expert_mode: Literal["lora", "full"] = Field("lora", description="LoRA on, or full weights of, the chosen experts")
    expert_rank: PositiveInt = Field(8, description="rank of LoRA on routed experts")
    expert_top_p: Fraction = Field(0.2, description="share of the affinity that the chosen experts of a layer cover")
    mtp: Literal["auto", True, False] = Field(
        "auto", description="auto adapts the MTP module if the base has one; true refuses a base without"
    )
    router_bias: Literal["frozen", "summed-counts"] = Field(
        "frozen", description="summed-counts moves the selection bias against the load of all institutions together"
    )
    router_bias_speed: PositiveFloat = Field(1e-3, description="how far a round moves that bias")
