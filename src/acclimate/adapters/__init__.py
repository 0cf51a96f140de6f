"""The only modules that know MLflow or Great Expectations."""
