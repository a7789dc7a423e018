from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models.inception import Inception3

from app.card import DataSource
from training.inception import build
from training.pretrained import TORCHVISION, WeightsError, from_nsfwjs, load
from training.pseudo_rate import column_names

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.pretrained import StartWeights

META = {"mean": "0.25", "std": "2.0", "count_border": "false", "provenance": "a test"}
FOLDER = "package/dist/models/inception_v3/"
LOW, SCALE = -0.5, 1 / 128


def test_weights_come_back_with_their_conventions(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    save_file({"a.weight": torch.arange(4).half()}, path, metadata=META)
    start = load(path)
    assert start.state.keys() == {"a.weight"}
    assert start.state["a.weight"].dtype == torch.float32
    assert start.state["a.weight"].tolist() == [0, 1, 2, 3]
    assert (start.mean, start.std, start.count_border) == (0.25, 2.0, False)
    assert (start.provenance, start.learned_from) == ("a test", ())


def test_an_earlier_run_gives_its_blocks_and_what_it_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    source = DataSource(name="FI", pictures=9, terms="academic", citation="You")
    meta = {**META, "learned_from": json.dumps([source.model_dump()]), "epoch": "3", "best": "1.5"}
    save_file({"blocks.a.weight": torch.ones(2), "head.weight": torch.ones(3)}, path, metadata=meta)
    start = load(path)
    assert start.state.keys() == {"a.weight"}
    assert start.learned_from == (source,)
    assert start.head == {}


def test_an_earlier_run_gives_the_last_layer_for_emotions_that_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    labels = ["A joy", "A fear", "B joy"]
    meta = {**META, "labels": json.dumps(labels), "reads": json.dumps(["Mixed_7a", "Mixed_6e"])}
    weight, bias = torch.arange(6.0).reshape(3, 2), torch.tensor([7.0, 8.0, 9.0])
    save_file({"blocks.a": torch.ones(2), "head.weight": weight, "head.bias": bias}, path, metadata=meta)
    start = load(path)
    assert start.state.keys() == {"a"}
    reads = ("Mixed_6e", "Mixed_7a")
    asked = ["fear", "joy"]
    wanted = [[[2, 3], [0, 1]], [8, 7]]
    for name in ("A", "another name for it"):  # only one of the two sets has both emotions
        found = start.head_for(asked, column_names(name, asked), reads)
        assert found is not None
        assert [part.tolist() for part in found] == wanted
    assert start.head_for(["fear", "anger"], column_names("A", ["fear", "anger"]), reads) is None
    assert start.head_for(["joy", "A joy"], ["joy", "A joy"], reads) is None, "that may be any set's"
    assert start.head_for(asked, column_names("A", asked), ("Mixed_6e",)) is None, "features of another kind"


def test_the_last_layer_of_one_set_is_known_by_its_labels_alone(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    meta = {**META, "labels": json.dumps(["joy", "fear"]), "reads": json.dumps(["Mixed_7c"])}
    save_file(
        {"head.weight": torch.arange(4.0).reshape(2, 2), "head.bias": torch.ones(2)}, path, metadata=meta
    )
    asked = ["fear", "joy"]
    found = load(path).head_for(asked, column_names("mine", asked), ("Mixed_7c",))
    assert found is not None
    assert found[0].tolist() == [[2, 3], [0, 1]]


@pytest.mark.parametrize("missing", META)
def test_weights_that_do_not_say_how_pixels_are_scaled_are_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "start.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={key: META[key] for key in META if key != missing})
    with pytest.raises(WeightsError, match=rf"lacks the metadata \['{missing}'\]"):
        load(path)


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "start.safetensors"
    with pytest.raises(FileNotFoundError):
        load(path)
    path.write_text("not weights")
    with pytest.raises(WeightsError, match=r"start\.safetensors is not a safetensors file"):
        load(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match="count_border"):
        load(path)


def bundle(path: Path, manifest: list[tuple[str, tuple[int, ...]]], blob: bytes, *, shards: int = 6) -> Path:
    """A package in nsfwjs's layout: a manifest in one script, the weights as text in six others."""
    weights = ",".join(
        f'{{name:"{name}",shape:[{",".join(map(str, shape))}],dtype:"float32",'
        f'quantization:{{min:{LOW!r},scale:{SCALE:e},dtype:"uint8"}}}}'
        for name, shape in manifest
    )
    files = {"model.min.js": f"module.exports={{weightsManifest:[{{weights:[{weights}]}}]}};".encode()}
    size = -(-len(blob) // shards)
    for n in range(shards):
        part = base64.b64encode(blob[n * size : (n + 1) * size])
        files[f"group1-shard{n + 1}of6.min.js"] = b'var shard="' + part + b'";'
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(FOLDER + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def inception_manifest() -> list[tuple[str, tuple[int, ...]]]:
    """The tensors of a Keras Inception-V3, kernels as height, width, in, out."""
    with torch.device("meta"):
        twin = Inception3(aux_logits=False, init_weights=False)
    manifest: list[tuple[str, tuple[int, ...]]] = []
    convolutions = [module for module in twin.modules() if type(module).__name__ == "BasicConv2d"]
    for number, module in enumerate(convolutions, 1):
        out, channels, height, width = module.conv.weight.shape
        manifest.append((f"conv2d_{number}/kernel", (height, width, channels, out)))
        manifest += [
            (f"batch_normalization_{number}/{part}", (out,))
            for part in ("beta", "moving_mean", "moving_variance")
        ]
    return [*manifest, ("dense_3/kernel", (2048, 5)), ("dense_3/bias", (5,))]


def quantised(manifest: list[tuple[str, tuple[int, ...]]]) -> tuple[bytes, dict[str, NDArray[np.float32]]]:
    """Bytes for every tensor, and what they stand for."""
    rng = np.random.default_rng(0)
    parts = {name: rng.integers(100, 256, shape, np.uint8) for name, shape in manifest}
    values = {name: (part * SCALE + LOW).astype(np.float32) for name, part in parts.items()}
    return b"".join(part.tobytes() for part in parts.values()), values


def test_the_keras_network_in_nsfwjs_is_converted(tmp_path: Path) -> None:
    manifest = inception_manifest()
    blob, values = quantised(manifest)
    package = bundle(tmp_path / "nsfwjs-4.4.0.tgz", manifest, blob)
    out = tmp_path / "start.safetensors"
    assert from_nsfwjs(package, out) == 94 * 5 == len(load_file(out))
    start = load(out)
    assert (start.mean, start.std, start.count_border) == (0, 1, False)
    assert "nsfwjs" in start.provenance
    # The first convolution, one that is wider than high, and the last.
    for number, name in ((1, "Conv2d_1a_3x3"), (33, "Mixed_6b.branch7x7_2"), (94, "Mixed_7c.branch_pool")):
        kernel = values[f"conv2d_{number}/kernel"]
        ours = start.state[f"{name}.conv.weight"].numpy()
        assert ours.shape == (kernel.shape[3], kernel.shape[2], *kernel.shape[:2])
        np.testing.assert_allclose(ours, kernel.transpose(3, 2, 0, 1), atol=1e-6)
        for part, keras in (
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            np.testing.assert_allclose(
                start.state[f"{name}.bn.{part}"], values[f"batch_normalization_{number}/{keras}"], atol=1e-6
            )
        assert (start.state[f"{name}.bn.weight"] == 1).all()
    assert build_takes(start)


def build_takes(start: StartWeights) -> bool:
    """Every block finds its weights."""
    blocks = build(3, start).blocks.state_dict()
    return all(torch.equal(blocks[key], value) for key, value in start.state.items())


SMALL = [("conv2d_1/kernel", (30, 40, 5, 10))]  # too long a text to be overlooked, too little for a network


@pytest.mark.parametrize(
    ("manifest", "size", "shards", "message"),
    [
        (SMALL, 60_000, 5, "has no .*group1-shard6of6.min.js"),
        (SMALL, 59_000, 6, "holds 59000 bytes of weights, but its manifest says 60000"),
        (SMALL, 61_000, 6, "holds 61000 bytes of weights, but its manifest says 60000"),
        (SMALL, 600, 6, "has no weights in .*group1-shard1of6.min.js"),
        ([], 60_000, 6, "holds 60000 bytes of weights, but its manifest says 0"),
        (SMALL, 60_000, 6, "lacks batch_normalization_1/beta"),
    ],
)
def test_another_package_is_refused(
    tmp_path: Path, manifest: list[tuple[str, tuple[int, ...]]], size: int, shards: int, message: str
) -> None:
    package = bundle(tmp_path / "other.tgz", manifest, bytes(size), shards=shards)
    out = tmp_path / "out.safetensors"
    with pytest.raises(WeightsError, match=f"other.tgz {message}"):
        from_nsfwjs(package, out)
    assert not out.exists()


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    manifest = [
        (name, (1, 1, 1, 1) if name.endswith("/kernel") else (1,)) for name, _ in inception_manifest()
    ]
    padding = ("unused", (60_000 - len(manifest),))
    package = bundle(tmp_path / "other.tgz", [*manifest, padding], bytes(60_000))
    with pytest.raises(WeightsError, match=r"does not fit Inception3 at Conv2d_1a_3x3\.conv\.weight"):
        from_nsfwjs(package, tmp_path / "out.safetensors")


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "other.tgz"
    package.write_text("not a package")
    with pytest.raises(WeightsError, match=r"other\.tgz is not a package"):
        from_nsfwjs(package, tmp_path / "out.safetensors")


def test_a_failed_download_says_what_to_do_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where nothing has been downloaded yet
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(WeightsError, match=r"cannot be downloaded .* pass --weights"):
        load(TORCHVISION)
