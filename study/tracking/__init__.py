"""MLflow: live runs, runs rebuilt from the result files, saved views, the model registry."""
