"""Train the starter's scorer: `python -m tools.starter.train_scorer [--config RECIPE]`.

Learns on the train side of the split only (`edgekd.data.split.holdout`). Writes the folder that
`edgekd.metrics.extractors.scorer.Scorer` loads: `image.onnx.xz`, `text.onnx.xz` (fp16 weights),
`tokenizer.json` and `config.json`. The frozen trunk's outputs are kept in `--work`; a killed run
continues from them. The same recipe gives the same scorer on the same machine and versions.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekd.errors import GateError
from edgekd.files import write_json
from edgekd.folders import atomic_folder
from edgekd.metrics.extractors.scorer import SCORER_FOLDER
from edgekd.metrics.features import open_session
from edgekd.progress import Progress, console
from edgekd.teach.data import load_corpus
from tools.starter.onnx_files import write_packed
from tools.starter.scorer_data import Renderings, Sampler, renderings, train_tokenizer
from tools.starter.scorer_model import ImageTower, TextTower, contrastive_loss
from tools.starter.scorer_recipe import ScorerRecipe, load_scorer_recipe

OPSET = 17
UNKNOWN_ID = 1
# fp16 weights with fp32 arithmetic turn a row of length 1 by far less than this.
MIN_COSINE = 0.9999


@dataclass(frozen=True)
class Towers:
    image: ImageTower
    text: TextTower


def build_towers(recipe: ScorerRecipe, inputs: int, vocabulary: int) -> Towers:
    """Towers with fresh weights from torch's current random state."""
    m = recipe.model
    return Towers(
        ImageTower(inputs, m.image_width, m.dimensions, m.image_dropout),
        TextTower(
            vocabulary,
            recipe.tokenizer.max_tokens,
            m.text_width,
            m.text_heads,
            m.text_layers,
            m.dimensions,
            m.text_dropout,
        ),
    )


def learning_rate(step: int, recipe: ScorerRecipe) -> float:
    """Linear warm-up, then a cosine to 0."""
    train = recipe.train
    warm = min(1.0, (step + 1) / max(1, train.warmup_steps))
    return train.learning_rate * warm * (1 + math.cos(math.pi * step / train.steps)) / 2


def token_ids(tokenizer: Any, captions: list[str]) -> Tensor:
    """[N,L] ids of captions."""
    return torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(captions)])


def hide_tokens(ids: Tensor, share: float) -> Tensor:
    """The ids with a random share of the tokens made unknown: no caption hangs on one word."""
    drop = (torch.rand(ids.shape) < share) & (ids > UNKNOWN_ID)
    return ids.masked_fill(drop, UNKNOWN_ID)


def fit(
    towers: Towers,
    rendered: Renderings,
    sampler: Sampler,
    tokenizer: Any,
    recipe: ScorerRecipe,
    progress: Progress,
) -> None:
    """Contrastive training, in place.

    Raises:
        GateError: the loss is not finite.
    """
    train = recipe.train
    inputs = torch.from_numpy(rendered.inputs)
    towers.image.standardise(inputs)
    log_scale = nn.Parameter(torch.tensor(math.log(train.initial_scale)))
    parameters = [*towers.image.parameters(), *towers.text.parameters(), log_scale]
    optimizer = torch.optim.AdamW(parameters, weight_decay=train.weight_decay)
    recent: list[float] = []
    with progress.track("scorer steps", train.steps) as advance:
        for step in range(train.steps):
            batch = sampler.batch(step)
            ids = hide_tokens(token_ids(tokenizer, batch.captions), train.unknown_tokens)
            loss = contrastive_loss(
                towers.image(inputs[torch.from_numpy(batch.rows)]),
                towers.text(ids),
                log_scale.clamp(max=math.log(train.max_scale)),
                torch.from_numpy(batch.also_true),
            )
            if not math.isfinite(loss.item()):
                raise GateError("the loss must be finite", f"{loss.item()} at step {step}")
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, train.max_grad_norm)
            optimizer.step()
            recent.append(loss.item())
            if (step + 1) % train.log_every == 0:
                progress.info(f"  step {step + 1}: loss {np.mean(recent):.3f}")
                recent.clear()
            advance(1)


def export_tower(
    tower: nn.Module, example: Tensor, name: str, path: Path, progress: Progress
) -> None:
    """Write a tower as ONNX with fp16 weights and check it against torch.

    Raises:
        GateError: its embeddings differ from torch's.
    """
    tower.eval()
    unpacked = path.with_suffix("")
    with warnings.catch_warnings():
        # The TorchScript route is deprecated, but exact and fast for graphs like these.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            tower,
            (example,),
            str(unpacked),
            dynamo=False,
            opset_version=OPSET,
            input_names=[name],
            output_names=["embeddings"],
            dynamic_axes={name: {0: "n"}, "embeddings": {0: "n"}},
        )
    model = onnx.load(str(unpacked))
    unpacked.unlink()
    store_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    write_packed(model, path)
    executed = open_session(path, 1).run(None, {name: example.numpy()})[0]
    with torch.no_grad():
        lowest = float((torch.from_numpy(executed) * tower(example)).sum(dim=1).min())
    if not lowest > MIN_COSINE:
        raise GateError(f"embeddings must agree with torch to cosine {MIN_COSINE}", f"{lowest}")
    progress.info(f"  {path.name}: {path.stat().st_size / 1e6:.2f} MB, cosine {lowest:.6f}")


def store_fp16(model: onnx.ModelProto) -> None:
    """Store weight matrices as fp16; a cast in the graph gives them back as fp32.

    The runtime folds the casts when it loads the file, so computation stays fp32.
    """
    graph = model.graph
    casts, renamed = [], {}
    for item in graph.initializer:
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32 and array.ndim >= 2:
            renamed[item.name] = f"{item.name}.fp32"
            item.CopyFrom(numpy_helper.from_array(array.astype(np.float16), item.name))
            casts.append(
                helper.make_node("Cast", [item.name], [renamed[item.name]], to=TensorProto.FLOAT)
            )
    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def train_scorer(recipe: ScorerRecipe, work: Path, out: Path, progress: Progress) -> None:
    """Train and write the scorer's folder.

    Args:
        work: folder for the trunk's outputs.
        out: the scorer's folder, replaced as the last step.
    """
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    corpus = load_corpus(recipe.data)
    rendered = renderings(corpus, recipe, work, progress)
    tokenizer = train_tokenizer(corpus, recipe)
    sampler = Sampler(corpus, rendered, recipe)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        towers = build_towers(recipe, rendered.inputs.shape[1], tokenizer.get_vocab_size())
        fit(towers, rendered, sampler, tokenizer, recipe, progress)
    with atomic_folder(out) as folder:
        captions = sampler.batch(0).captions
        ids = token_ids(tokenizer, captions)
        inputs = torch.from_numpy(rendered.inputs[: len(captions)])
        export_tower(towers.image, inputs, "inputs", folder / "image.onnx.xz", progress)
        export_tower(towers.text, ids, "input_ids", folder / "text.onnx.xz", progress)
        tokenizer.save(str(folder / "tokenizer.json"))
        write_json(
            folder / "config.json",
            {
                "name": recipe.name,
                "thumbnail": recipe.model.thumbnail,
                "recipe": recipe.model_dump(mode="json"),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the starter's image-text scorer.")
    parser.add_argument(
        "--config", default=Path(__file__).with_name("scorer.yaml"), type=Path, help="recipe file"
    )
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--work", type=Path, default=Path("runs/starter-scorer"))
    parser.add_argument("--out", type=Path, default=SCORER_FOLDER)
    args = parser.parse_args()
    recipe = load_scorer_recipe(args.config, args.set)
    train_scorer(recipe, args.work, args.out, console())


if __name__ == "__main__":
    main()
