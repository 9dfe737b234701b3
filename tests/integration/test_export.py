"""`study export`: what it writes, prints and says about itself, and that others read the same vectors from it."""
import json
import os
import re
import stat

import numpy as np
import pytest
import yaml

from study.config.load import load_study
from study.data.tokenizer import load
from study.evaluation.embedding import embed_layers, load_cell, tokenize
from tests.support.bad_input import assert_refused, cases, exit_status, number_in, written
from tests.support.fake_results import fake_study
from tests.support.studies import ROOT

TEXTS = ["magoku datuke petepo", "magoku", "", " ".join(["magoku"] * 50)]


@pytest.fixture(scope="module")
def exported(trained_tiny, tmp_path_factory):
    """The folder of an exported cell, written with a umask of its own, and what the command printed."""
    folder = tmp_path_factory.mktemp("export")
    before = os.umask(0o027)
    try:
        with pytest.MonkeyPatch.context() as patch:
            lines = []
            patch.setattr("study.cli.explore.echo", lines.append)
            assert exit_status(trained_tiny, "export", "dynamic-0", "--to", str(folder / "out")) == 0
    finally:
        os.umask(before)
    return folder / "out", lines


def test_the_export_prints_every_file_that_it_wrote(exported):
    folder, lines = exported
    assert lines[0].startswith(f"export: wrote RoFormerForMaskedLM to {folder}; load it with ")
    printed = {match[1]: int(match[2].replace(",", "")) for line in lines[1:]
               if (match := re.fullmatch(r"  (\S+)  ([\d,]+) bytes", line))}
    assert printed == {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")
                       if path.is_file()}
    assert {"README.md", "config.json", "model.safetensors", "modules.json", "tokenizer.json",
            "1_WordWeights/config.json", "2_Pooling/config.json"} <= printed.keys()


def test_files_have_the_permissions_of_the_users_umask(exported):
    folder, _ = exported
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {mode for name, mode in modes.items() if (folder / name).is_file()} == {0o640}
    assert (modes["out"], modes["2_Pooling"]) == (0o750, 0o750)


def pooled_by_the_modules(folder, states, ids, mask) -> np.ndarray:
    """What the exported modules say: the mean of states (N, T, H), weighted as in 1_WordWeights/config.json."""
    weights = json.loads((folder / "1_WordWeights/config.json").read_text())
    of_piece = np.array([weights["word_weights"].get(piece, weights["unknown_word_weight"])
                         for piece in weights["vocab"]])
    weight = of_piece[ids] * mask                                                           # (N, T)
    return (states * weight[..., None]).sum(1) / np.maximum(weight.sum(1), 1e-9)[:, None]


def our_vectors(root) -> np.ndarray:
    study = load_study(root)
    config, model = load_cell(study, "dynamic", 0)
    rows = tokenize(load(study.runs / "tokenizer"), TEXTS, config.examples.max_seq_length)
    return embed_layers(model, rows, 0, 8)[-1].mean


def test_the_modules_of_sentence_transformers_describe_our_vectors(exported, trained_tiny):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder, _ = exported
    modules = json.loads((folder / "modules.json").read_text())
    assert [(module["idx"], module["type"].rpartition(".")[2], module["path"]) for module in modules] == [
        (0, "Transformer", ""), (1, "WordWeights", "1_WordWeights"), (2, "Pooling", "2_Pooling")]
    pooling = json.loads((folder / "2_Pooling/config.json").read_text())
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**encoded).last_hidden_state.numpy()
    assert states.shape[-1] == pooling["word_embedding_dimension"]
    vectors = pooled_by_the_modules(folder, states, encoded.input_ids.numpy(), encoded.attention_mask.numpy())
    np.testing.assert_allclose(vectors, our_vectors(trained_tiny), atol=1e-5)
    mask = encoded.attention_mask.numpy()[..., None]
    plain = (states * mask).sum(1) / mask.sum(1)            # the library's mean without the weights
    assert np.abs(plain - vectors).max() > 0.01


def test_sentence_transformers_gives_our_vectors(exported, trained_tiny):
    library = pytest.importorskip("sentence_transformers")
    vectors = library.SentenceTransformer(str(exported[0]), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors, our_vectors(trained_tiny), atol=1e-5)


def test_the_card_has_data_settings_scores_with_intervals_limits_and_how_to_load(exported, trained_tiny):
    _, head, text = (exported[0] / "README.md").read_text().split("---\n", 2)
    metadata, cell = yaml.safe_load(head), load_study(trained_tiny).cell("dynamic", 0)
    assert (metadata["pipeline_tag"], metadata["library_name"]) == ("fill-mask", "transformers")
    assert re.findall(r"^## (.*)$", text, re.M) == ["Data", "Scores", "Settings", "Limits", "How to load"]
    perplexity = json.loads((cell / "evaluation.json").read_text())["mask_only"]["perplexity"]
    accuracy = json.loads((cell / "probe.json").read_text())["topic"]["mean"]["accuracy"]
    (results,) = [entry["results"] for entry in metadata["model-index"]]
    values = {result["metrics"][0]["name"]: result["metrics"][0]["value"] for result in results}
    assert values["perplexity on [MASK], test"] == pytest.approx(perplexity, abs=1e-4)
    for label, value in (("perplexity on [MASK], test", perplexity),
                         ("accuracy, linear probe of topic, mean pooling, last layer", accuracy)):
        numbers = re.search(rf"^\| {re.escape(label)} \| (\S+) \[(\S+), (\S+)\] \|", text, re.M).groups()
        shown, low, high = map(float, numbers)
        assert shown == pytest.approx(value, rel=1e-3)
        assert low < shown < high
    settings = yaml.safe_load((cell / "settings.yaml").read_text())
    assert f"| `training.learning_rate` | {settings['training']['learning_rate']} |" in text
    assert json.loads((cell / "training.json").read_text())["fingerprint"] in text
    assert "without [CLS] and [SEP]" in text


SITUATIONS = [
    ("export", "a folder with files", written("out/file", "mine"), "out: is not an empty folder; choose a new one"),
    ("export", "a file of that name", written("out", "mine"), "out: is not an empty folder; choose a new one"),
    ("export", "another tokenizer", number_in("runs/tiny/examples/training_inputs.json", "tokenizer", value="ab"),
     "made with another tokenizer than runs/tiny/tokenizer/tokenizer.json"),
    ("export", "other examples", number_in("runs/tiny/examples/training_inputs.json", "train", value="ab"),
     "dynamic-0 was trained on other examples"),
]


@pytest.mark.parametrize(("command", "spoil", "message"), cases(SITUATIONS))
def test_an_export_that_would_mislead_is_refused(trained_tiny, tmp_path, capsys, command, spoil, message):
    assert_refused(tmp_path / "root", trained_tiny, spoil, message, capsys, command, "dynamic-0", "--to", "out")


def test_the_card_shows_the_recipe_over_its_seeds_and_a_text_that_others_can_look_up(tmp_path):
    from study.analysis.model_card import model_card
    from tests.support.fake_results import compare

    study = fake_study(tmp_path / "project")
    compare(study)
    card = model_card(study, "dynamic", 0, "BertForMaskedLM")
    interval = r"\S+ \[\S+, \S+\]"
    assert re.search(rf"^\| perplexity on \[MASK\], test \| {interval} \| {interval}, 2 seeds \|$", card, re.M)
    assert "datasets" not in yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(("local", "datasets", "text"), [
    (None, ["Salesforce/wikitext"], "Trained on the data set `Salesforce/wikitext` of the Hugging Face hub"),
    ("mine", None, "Trained on text of a local folder, `mine`")])
def test_the_card_names_a_data_set_of_the_hub_only_if_the_text_is_from_there(tmp_path, local, datasets, text):
    from study.analysis.model_card import model_card

    study = fake_study(tmp_path / "project")
    corpus = load_study(ROOT / "experiments/wikitext2").settings.corpus.model_copy(update={"local": local})
    study = study.model_copy(update={"settings": study.settings.model_copy(update={"corpus": corpus})})
    (study.runs / "corpus").mkdir(exist_ok=True)
    (study.runs / "corpus/summary.json").write_text(json.dumps(
        {"splits": {"train": {"documents": 1200, "words": 34567}}, "tasks": {}, "warnings": []}))
    card = model_card(study, "dynamic", 0, "BertForMaskedLM")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata.get("datasets") == datasets
    assert f"{text}: 1,200 documents with 34,567 words. SHA-256 of the token ids: " in card
    of_text = metadata["model-index"][0]["results"][0]["dataset"]["name"]
    assert of_text == (local or "Salesforce/wikitext")
