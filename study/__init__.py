"""A reproducibility study of BERT pre-training: arms, paired seeds, fixed evaluation, verdicts on published claims."""


class StudyError(Exception):
    """Something a user can mend. The message is one line that names the file, the key or the row, and the remedy."""
