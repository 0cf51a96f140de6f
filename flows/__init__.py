"""Prefect flows: when and where stages run. The order is read from DVC."""
