"""How a batch is divided among processes."""
import pytest

from study import StudyError
from study.training.parallel import Processes


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_part_of_a_batch_belongs_to_one_process(count):
    parts = list(range(8))
    shares = [Processes(rank, count).part(parts) for rank in range(count)]
    assert sorted(part for share in shares for part in share) == parts
    assert {len(share) for share in shares} == {8 // count}


def test_more_processes_than_parts_are_rejected():
    with pytest.raises(StudyError, match="can be divided among 2 processes, but 3 were started; start fewer"):
        Processes(0, 3).part([0, 1])
