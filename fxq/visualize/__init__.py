"""Pictures of a graph at any stage: DOT for Graphviz, and text."""

from fxq.graph.text import print_graph as to_text
from fxq.visualize.dot import to_dot

__all__ = ["to_dot", "to_text"]
