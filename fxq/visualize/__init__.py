"""Pictures of a model at any stage: a page to look around in, and DOT, SVG, Mermaid and plain text."""

from fxq.graph.text import print_graph as to_text
from fxq.visualize.dot import to_dot
from fxq.visualize.mermaid import to_mermaid
from fxq.visualize.page import visualize
from fxq.visualize.svg import to_svg

__all__ = ["to_dot", "to_mermaid", "to_svg", "to_text", "visualize"]
