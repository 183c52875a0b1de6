"""`polygraphy plugin` finds and replaces APA with this file; docs/recipes/polygraphy.md shows how."""

from apa_deploy.graph.polygraphy_pattern import canonical_put_in, matching_subgraphs


def get_plugin_metadata():
    return {"name": "APA", "op": "APA"}


def get_matching_subgraphs(graph):
    return matching_subgraphs(graph, "APA")


def replace_with_plugin(graph, input_tensors, output_tensors, attrs=None, op=None):
    return canonical_put_in(graph, input_tensors, output_tensors, attrs, "APA")
