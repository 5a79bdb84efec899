"""Builds people (`scenes.people`) in Blender: meshes for skin and clothes, Cycles' curves for hair and glasses."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deeplens.scenes.figure_files import Piece, load_person
from deeplens.scenes.room_materials import Materials
from deeplens.scenes.room_scene import Colour, Item, Look, Person

WIRE: Colour = (0.02, 0.02, 0.022)


def build_person(
    bpy: Any, materials: Materials, item: Item, person: Person, link: Callable[[str, Any], Any]
) -> list[Any]:
    """Blender's objects for a person at its place; `link` puts data into the scene and gives back the object."""
    assert item.look is not None
    from mathutils import Matrix

    place = Matrix.Translation(item.position) @ Matrix.Rotation(item.yaw, 4, "Z")
    things = []
    for piece in load_person(person.path):
        material = _material(materials, piece, item.look)
        data = _curves(bpy, piece) if piece.faces is None else _mesh(bpy, piece)
        data.materials.append(material)
        thing = link(piece.name, data)
        thing.matrix_world = place
        things.append(thing)
    return things


def _mesh(bpy: Any, piece: Piece) -> Any:
    assert piece.faces is not None
    mesh = bpy.data.meshes.new(piece.name)
    faces = piece.faces
    mesh.vertices.add(len(piece.points))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(piece.points, np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.astype(np.int32).ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, faces.shape[1], dtype=np.int32))
    mesh.update(calc_edges=True)
    if piece.uv is not None:
        mesh.uv_layers.new().data.foreach_set("uv", piece.uv[faces.ravel()].astype(np.float32).ravel())
    if piece.tint is not None:
        tint = np.concatenate([piece.tint, np.ones((len(piece.tint), 1), np.float32)], 1)
        layer = mesh.color_attributes.new("tint", "FLOAT_COLOR", "POINT")
        layer.data.foreach_set("color", tint.astype(np.float32).ravel())
    mesh.shade_smooth()
    return mesh


def _curves(bpy: Any, piece: Piece) -> Any:
    assert piece.radii is not None
    count, steps = piece.points.shape[:2]
    curves = bpy.data.hair_curves.new(piece.name)
    curves.add_curves([steps] * count)
    curves.attributes["position"].data.foreach_set("vector", np.ascontiguousarray(piece.points, np.float32).ravel())
    radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
    radius.data.foreach_set("value", np.ascontiguousarray(piece.radii, np.float32).ravel())
    return curves


def _material(materials: Materials, piece: Piece, look: Look) -> Any:
    cloth = dict(look.cloth)
    if piece.name in cloth:
        return materials.surface(cloth[piece.name])
    if piece.name == "skin":
        return _tinted(
            materials.bpy, look.skin, [_lips(look.skin), _redder(look.skin), _dim(look.hair, look.skin)], rough=0.5
        )
    if piece.name == "eyes":
        return _tinted(materials.bpy, (0.75, 0.73, 0.70), [look.iris, (0.004, 0.004, 0.004), WIRE], rough=0.08)
    if piece.name == "glasses":
        return _plain(materials.bpy, WIRE, rough=0.2)
    if piece.name == "brows":
        return _plain(materials.bpy, _mixed(look.hair, _mixed(look.skin, (0.01, 0.007, 0.005), 0.85), 0.7), rough=0.7)
    return _plain(materials.bpy, look.hair, rough=0.55, uneven=0.35)


def _plain(bpy: Any, colour: Colour, *, rough: float, uneven: float = 0.0) -> Any:
    """One colour; `uneven`: by how much it varies from curve to curve."""
    material = bpy.data.materials.new("plain")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value, shader.inputs["Roughness"].default_value = (*colour, 1), rough
    if uneven:
        noise, mix, where = (nodes.new(f"ShaderNode{name}") for name in ("TexNoise", "MixRGB", "TexCoord"))
        noise.inputs["Scale"].default_value = 60.0
        links.new(where.outputs["Object"], noise.inputs["Vector"])
        links.new(noise.outputs["Fac"], mix.inputs["Fac"])
        for name, factor in (("Color1", 1 - uneven), ("Color2", 1 + uneven)):
            mix.inputs[name].default_value = (*(factor * value for value in colour), 1)
        links.new(mix.outputs[0], shader.inputs["Base Color"])
    return material


def _tinted(bpy: Any, colour: Colour, others: Sequence[Colour], *, rough: float) -> Any:
    """One colour, and over it three others where the mesh's tint says so; a little uneven."""
    material = bpy.data.materials.new("tinted")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = rough
    tint, parts, where, noise, start = (
        nodes.new(f"ShaderNode{name}") for name in ("VertexColor", "SeparateColor", "TexCoord", "TexNoise", "MixRGB")
    )
    tint.layer_name = "tint"
    links.new(tint.outputs["Color"], parts.inputs[0])
    noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = 25.0, 6.0
    links.new(where.outputs["Object"], noise.inputs["Vector"])
    links.new(noise.outputs["Fac"], start.inputs["Fac"])
    for name, factor in (("Color1", 0.86), ("Color2", 1.14)):
        start.inputs[name].default_value = (*(min(1.0, factor * value) for value in colour), 1)
    below = start.outputs[0]
    for number, other in enumerate(others):
        mix = nodes.new("ShaderNodeMixRGB")
        links.new(parts.outputs[number], mix.inputs["Fac"])
        links.new(below, mix.inputs["Color1"])
        mix.inputs["Color2"].default_value = (*other, 1)
        below = mix.outputs[0]
    links.new(below, shader.inputs["Base Color"])
    return material


def _lips(skin: Colour) -> Colour:
    return (0.85 * skin[0], 0.5 * skin[1], 0.55 * skin[2])


def _redder(skin: Colour) -> Colour:
    return (min(1.0, 1.02 * skin[0]), 0.72 * skin[1], 0.70 * skin[2])


def _dim(hair: Colour, skin: Colour) -> Colour:
    return _mixed(_mixed(skin, (0.0, 0.0, 0.0), 0.35), hair, 0.5)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in one."""
    red, green, blue = (float((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue
