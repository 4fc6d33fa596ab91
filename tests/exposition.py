"""What GET /metrics says, as numbers."""

from prometheus_client.parser import text_string_to_metric_families

TOKEN = {"Authorization": "Bearer secret"}


class Samples(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of an exposition, by name and labels."""

    def __init__(self, text: str) -> None:
        super().__init__(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(text) for sample in family.samples
        )

    def all(self, name: str, **labels: str) -> list[float]:
        """The values of the metric `name` whose labels have these."""
        return [
            value for (its, found), value in self.items()
            if its == name and labels.items() <= dict(found).items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.all(name, **labels))

    def labels(self, name: str, label: str) -> set[str]:
        """The values that a label of a metric has."""
        return {dict(found)[label] for its, found in self if its == name}
