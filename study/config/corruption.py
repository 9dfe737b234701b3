"""What the settings of a run say about the corruption that it sees."""


def sees_mask(config) -> bool:
    """Whether a run with these settings (a RunConfig) is trained on rows with [MASK], so that its NLL on [MASK] says
    how it learns."""
    return config.objective.token_objective == "mlm" and config.masking.mask > 0
