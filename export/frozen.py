"""A network at one fixed size, with all that depends on its weights alone computed ahead of time.

Vision transformers resize their position embedding to the picture's patches inside the network: by bicubic
interpolation, which Core ML has not. At a fixed size the result is a constant. Relative position biases, masks and
indices of patches are constants too.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BEGINNING = "frozen_"
"""Begins the names of the constants."""


def frozen(module: "torch.nn.Module", size: tuple[int, int]) -> "torch.nn.Module":
    """The same network for pictures of one size only; weights keep their names and values.

    Args:
        module: takes one picture, (1, 3, H, W), in evaluation mode. It stays as it is.
        size: H and W in pixels.

    Raises:
        MismatchError: PyTorch can't trace it at this size.
    """
    import torch

    from deeplens.console.errors import MismatchError, one_line

    try:
        program = torch.export.export(module, (torch.zeros(1, 3, *size),))
    except Exception as error:  # each operation fails in its own way
        raise MismatchError(
            f"torch.export can't trace the depth network at {size[1]}x{size[0]} ({one_line(error)[:300]}): does the "
            "network take this size?"
        ) from error
    graph_module = program.module(check_guards=False)
    assert isinstance(graph_module, torch.fx.GraphModule)
    _fold(graph_module)
    for each in graph_module.modules():  # what was traced has no other mode, but is taken for a module in training
        each.training = False
    return graph_module.requires_grad_(False)


def is_assertion(node: "torch.fx.Node") -> bool:
    """Whether an operation only checks: of a type, say, which another precision does not have."""
    return node.op == "call_function" and "_assert" in str(node.target)


def drop_assertions(module: "torch.fx.GraphModule") -> None:
    """Take the operations that only check out of a traced network, in place."""
    for node in list(module.graph.nodes):
        if is_assertion(node):
            module.graph.erase_node(node)
    module.recompile()


def _fold(module: "torch.fx.GraphModule") -> None:
    """Replace what depends on no input by constants, in place."""
    import torch
    from torch.fx.node import map_arg

    drop_assertions(module)
    graph = module.graph
    values: dict[torch.fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op == "get_attr":
            values[node] = _attribute(module, str(node.target))
        elif node.op == "call_function" and all(each in values for each in node.all_input_nodes):
            with torch.no_grad():
                arguments = map_arg((node.args, node.kwargs), lambda each: values[each])
                values[node] = node.target(*arguments[0], **arguments[1])
    made = 0
    for node, value in values.items():
        outside = any(user not in values for user in node.users)
        if node.op == "get_attr" or not outside or not isinstance(value, torch.Tensor):
            continue
        name = f"{BEGINNING}{made}"
        made += 1
        module.register_buffer(name, value.detach().clone().contiguous())
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        node.replace_all_uses_with(constant)
    graph.eliminate_dead_code()
    graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()


def _attribute(module: "torch.nn.Module", name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found
