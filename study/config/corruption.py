"""What the settings of a run say about the corruption that it sees."""


def sees_mask(config) -> bool:
    """Whether a run is trained on rows with [MASK], so that its NLL on [MASK] says how it learns.

    config: a RunConfig, or its sections while they are validated.
    """
    return config.objective.token_objective == "mlm" and config.masking.mask > 0
