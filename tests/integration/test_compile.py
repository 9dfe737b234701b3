"""torch.compile changes the speed of training and not its result. One layer is enough: the second would be compiled
into the same kernels, and compilation takes most of the time."""
import pytest

from tests.support.studies import changed
from tests.support.training import trained


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 5e-3)])
def test_a_compiled_model_trains_as_the_plain_one(config, data, precision, tolerance):
    config = changed(config, model={"num_hidden_layers": 1})
    budget = {"steps": 3, "logging_steps": 1, "eval_steps": 3, "precision": precision}
    plain = trained(changed(config, training=budget), data)[1].records
    compiled = trained(changed(config, training=budget | {"compile": True}), data)[1].records
    for key in ("loss", "gradient_norm", "validation_nll"):
        expected = [record[key] for record in plain if key in record]
        assert [record[key] for record in compiled if key in record] == pytest.approx(expected, rel=tolerance)


def test_a_compiled_model_trains_with_dropout(config, data):
    """Its masks are torch's and not those of the plain model, so the losses are only close."""
    budget = {"steps": 3, "logging_steps": 1, "eval_steps": 3}
    with_dropout = changed(config, model={"dropout": 0.2, "num_hidden_layers": 1})
    plain, compiled = (trained(changed(with_dropout, training=budget | {"compile": compile}), data)[1].records
                       for compile in (False, True))
    losses = [[record["loss"] for record in records if record["step"]] for records in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
