"""The committed recipe's parts on a small book: passages, topics, records, and the same bytes twice."""

from __future__ import annotations

import hashlib
import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from model import checkpoint_sha256, load_checkpoint
from model.bases import bundled_base
from model.cli import app
from model.config import ModelConfig
from model.errors import CheckpointError, RecipeError
from model.pretraining.batches import record_batches
from model.pretraining.books import read_chapters, split_passages
from model.pretraining.noise import roughen
from model.pretraining.recipe import Recipe, load_recipe
from model.pretraining.rescale import rescale_states
from model.pretraining.run import Step, pretrain
from model.pretraining.tasks import IGNORED, RecordTasks
from model.pretraining.topics import Topics, find_topics
from model.text.tokenizer import load_tokenizer
from model.transformer import DeepseekV3

_THEMES = (
    ["harbour", "ship", "sailor", "anchor", "tide", "mast", "rope", "gull", "wave", "deck"],
    ["orchard", "apple", "branch", "harvest", "basket", "ladder", "blossom", "cider", "root", "bark"],
    ["kitchen", "kettle", "spoon", "oven", "bread", "flour", "butter", "plate", "supper", "stove"],
)
_COMMON = ["the", "and", "was", "upon", "there", "with", "from", "little", "old", "new"]
_SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_nextn_predict_layers": 1,
    "tie_word_embeddings": True,
}


def write_books(folder: Path) -> Path:
    """Three themes in turn, so that topics exist; common little words in between."""
    rng = random.Random(1)
    lines = []
    for chapter in range(12):
        sentences = []
        for _ in range(40):
            words = rng.choices(_THEMES[chapter % 3], k=9) + _COMMON
            rng.shuffle(words)
            sentences.append(" ".join(words[:14]).capitalize() + ".")
        lines.append(json.dumps({"split": "train", "text": " ".join(sentences)}))
    lines.append(json.dumps({"split": "test", "text": "Never read."}))
    path = folder / "books.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def small_recipe(books: Path, **changes: Any) -> Recipe:
    content = {
        "seed": 3,
        "books": {"file": books.name, "sha256": hashlib.sha256(books.read_bytes()).hexdigest()},
        "vocab_size": 400,
        "topics": {"dimensions": 4, "common_words": 10, "counts": [3, 2]},
        "tasks": {"prose": 1.0, "keywords": 1.0, "related": 1.0, "topic": 2.0, "clean": 1.0},
        "optimisation": {"steps": 6, "mtp_steps": 16, "tokens_per_step": 256, "learning_rate": 0.003, "warmup_steps": 2},
        "network": _SMALL,
    }
    return Recipe.model_validate(content | changes)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_books(tmp_path_factory.mktemp("books"))


@pytest.fixture(scope="module")
def topics(books: Path) -> Topics:
    return find_topics(split_passages(read_chapters(books)), 4, [3], 10, seed=0)


def test_test_chapters_are_not_read(books: Path) -> None:
    assert len(read_chapters(books)) == 12
    assert not any("Never" in chapter for chapter in read_chapters(books))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "books.jsonl"
    path.write_text('{"split": "train", "text": "fine"}\n{"split": "train"}\n')
    with pytest.raises(RecipeError, match=r"books\.jsonl line 2"):
        read_chapters(path)


def test_passages_keep_order_and_whole_sentences(books: Path) -> None:
    chapter = read_chapters(books)[0]
    text = " ".join(passage.text for passage in split_passages([chapter]))
    assert chapter.startswith(text[:2000])


def test_topics_separate_the_themes(books: Path, topics: Topics) -> None:
    passages = split_passages(read_chapters(books))
    themes = [next(i for i, words in enumerate(_THEMES) if set(words) & set(passage.text.lower().split())) for passage in passages]
    pairs = set(zip(themes, topics.divisions[0].assignment, strict=True))
    assert len(pairs) == 3, "each theme is one topic"


def test_topic_names_differ_and_come_from_the_vocabulary(topics: Topics) -> None:
    names = topics.divisions[0].names
    assert len({frozenset(name) for name in names}) == len(names)
    assert all(word in topics.vocabulary.index for name in names for word in name)


def test_roughening_all_words_changes_long_words_only() -> None:
    rough = roughen("the harbour was very quiet", 1.0, random.Random(0)).split()
    assert rough[0] == "the"
    assert rough[2] == "was"
    assert rough[1] != "harbour"


@pytest.mark.parametrize("task", ["prose", "keywords", "related", "topic", "clean"])
def test_a_record_ends_and_learns_its_answer(task: str, books: Path, topics: Topics) -> None:
    tokenizer = load_tokenizer(bundled_base("tiny"))
    tasks = RecordTasks(split_passages(read_chapters(books)), topics, tokenizer, 0.0, random.Random(0))
    record = tasks.draw(task)
    assert record.ids[-1] == record.targets[-1] == tokenizer.eos_token_id
    assert all(target in (token, IGNORED) for token, target in zip(record.ids, record.targets, strict=True))
    learnt = tokenizer.decode(target for target in record.targets if target != IGNORED)
    assert tokenizer.decode(record.ids).endswith(learnt)


def test_batches_keep_within_their_tokens(books: Path, topics: Topics) -> None:
    rng = random.Random(0)
    tokenizer = load_tokenizer(bundled_base("tiny"))
    tasks = RecordTasks(split_passages(read_chapters(books)), topics, tokenizer, 0.3, rng)
    batches = record_batches(tasks.draw, {"topic": 1.0, "prose": 1.0}, 512, 1, rng)
    for batch in islice(batches, 40):
        ids, targets = batch.input_ids, batch.targets
        assert ids.shape == targets.shape == batch.valid.shape
        assert ids.numel() <= 512
        assert bool(((targets == ids) | (targets == IGNORED)).all())


def test_one_recipe_gives_the_same_bytes_twice_and_another_seed_gives_others(books: Path, tmp_path: Path) -> None:
    first = pretrain(small_recipe(books), books.parent, tmp_path / "a")
    second = pretrain(small_recipe(books), books.parent, tmp_path / "b")
    other = pretrain(small_recipe(books, seed=4), books.parent, tmp_path / "c")
    assert first == second == checkpoint_sha256(tmp_path / "a")
    assert other != first
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_the_result_loads_with_its_mtp_module_and_tokenizer(books: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    pretrain(small_recipe(books), books.parent, tmp_path / "base", steps.append)
    net = load_checkpoint(tmp_path / "base", torch.float32)
    ids = torch.tensor([load_tokenizer(tmp_path / "base").encode("the harbour")])
    assert len(net.mtp) == 1
    assert torch.isfinite(net(ids).logits).all()
    assert [step.stage for step in steps] == ["network"] * 6 + ["mtp"] * 16
    assert steps[5].loss < steps[0].loss
    assert steps[-1].loss < steps[6].loss


def test_the_command_prints_one_document(books: Path, tmp_path: Path) -> None:
    content = small_recipe(books).model_dump(exclude_none=True)
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if key not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (tmp_path / "recipe.toml").write_text("\n".join(lines))
    arguments = [str(tmp_path / "recipe.toml"), "--data", str(books.parent), "--out", str(tmp_path / "base"), "--json"]
    result = CliRunner().invoke(app, ["pretrain", *arguments])
    assert json.loads(result.stdout)["sha256"] == checkpoint_sha256(tmp_path / "base")


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_rescaled_states_give_the_same_logits(factor: float) -> None:
    sizes = {**_SMALL, "vocab_size": 50, "num_nextn_predict_layers": 0, "initializer_range": 0.3}
    net = DeepseekV3(ModelConfig.from_dict(sizes))
    net.initialize(torch.Generator().manual_seed(0))
    ids = torch.arange(20).view(2, 10)
    wanted, size = net(ids).logits, net.model.embed_tokens.weight.norm()
    rescale_states(net, factor)
    assert torch.allclose(net(ids).logits, wanted, rtol=1e-3, atol=1e-3)
    assert torch.allclose(net.model.embed_tokens.weight.norm(), size * factor)


def test_a_full_directory_is_left_alone(books: Path, tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("mine")
    with pytest.raises(CheckpointError, match="is not empty"):
        pretrain(small_recipe(books), books.parent, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep"]


def test_other_books_are_refused(books: Path, tmp_path: Path) -> None:
    recipe = small_recipe(books)
    (tmp_path / books.name).write_text(books.read_text() + "\n")
    with pytest.raises(RecipeError, match="SHA-256 differs"):
        pretrain(recipe, tmp_path, tmp_path / "out")
    with pytest.raises(RecipeError, match="is missing"):
        pretrain(recipe, tmp_path / "elsewhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_field_of_a_recipe_is_named(tmp_path: Path) -> None:
    recipe = (bundled_base("tiny") / "recipe.toml").read_text()
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.replace("vocab_size =", "vocabulary ="))
    with pytest.raises(RecipeError, match="vocab"):
        load_recipe(path)
    path.write_text("seed =")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(path)


def test_the_bundled_base_is_what_its_recipe_names() -> None:
    tiny = bundled_base("tiny")
    assert load_recipe(tiny / "recipe.toml").result_sha256 == checkpoint_sha256(tiny)


def test_the_bundled_base_is_small() -> None:
    tiny = bundled_base("tiny")
    assert sum(file.stat().st_size for file in tiny.iterdir()) <= 12_000_000
