"""Blender's materials for the surfaces, photos, cut-outs and models of `scenes.room_scene`."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplens.scenes.room_scene import WHOLE, Part, Surface
from deeplens.scenes.sources import load_background, load_cutout


class Materials:
    """What was made for one scene, each once. `bpy` is Blender's module; pictures on the way go to `scratch`."""

    def __init__(self, bpy: Any, scratch: Path) -> None:
        self.bpy, self.scratch = bpy, scratch
        self._made: dict[object, Any] = {}

    def cutout(self, path: Path) -> Path:
        """A cut-out at up to 768 pixels, as Blender reads it."""
        file = self.scratch / f"{path.stem}.cutout.png"
        if not file.is_file():
            image = Image.fromarray(load_cutout(path))
            image.thumbnail((768, 768), Image.Resampling.LANCZOS)
            image.save(file)
        return file

    def photo(self, path: Path, part: Part = WHOLE) -> Path:
        """A part of a photo at up to 1024 pixels, as Blender reads it."""
        file = self.scratch / f"{path.stem}{''.join(f'_{share:.4f}' for share in part)}.png"
        if not file.is_file():
            image = Image.fromarray(load_background(path))
            left, top, right, bottom = np.multiply(part, image.size * 2)
            image = image.crop((left, top, right, bottom))
            image.thumbnail((1024, 1024), Image.Resampling.LANCZOS)
            image.save(file, compress_level=1)
        return file

    def image(self, file: Path, *, alpha: bool) -> Any:
        """A picture that is lit from both sides; with `alpha`, what is less than half opaque is not there."""
        if file in self._made:
            return self._made[file]
        material = self.bpy.data.materials.new(file.stem)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.remove(nodes["Principled BSDF"])
        image, diffuse, translucent, both = (
            nodes.new(f"ShaderNode{name}") for name in ("TexImage", "BsdfDiffuse", "BsdfTranslucent", "MixShader")
        )
        image.image, image.extension = self.bpy.data.images.load(str(file)), "EXTEND"
        both.inputs[0].default_value = 0.35
        for number, shader in enumerate((diffuse, translucent)):
            links.new(image.outputs["Color"], shader.inputs["Color"])
            links.new(shader.outputs[0], both.inputs[number + 1])
        shown = both
        if alpha:
            opaque, nothing, shown = (
                nodes.new(f"ShaderNode{name}") for name in ("Math", "BsdfTransparent", "MixShader")
            )
            opaque.operation = "GREATER_THAN"
            links.new(image.outputs["Alpha"], opaque.inputs[0])
            links.new(opaque.outputs[0], shown.inputs[0])
            links.new(nothing.outputs[0], shown.inputs[1])
            links.new(both.outputs[0], shown.inputs[2])
        links.new(shown.outputs[0], nodes["Material Output"].inputs["Surface"])
        self._made[file] = material
        return material

    def surface(self, surface: Surface) -> Any:
        if surface in self._made:
            return self._made[surface]
        material = self.bpy.data.materials.new(surface.pattern)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        shader = nodes["Principled BSDF"]
        shader.inputs["Roughness"].default_value = surface.roughness
        self._made[surface] = material
        mapping, metres = nodes.new("ShaderNodeMapping"), nodes.new("ShaderNodeUVMap")
        mapping.inputs["Scale"].default_value = (1 / surface.scale,) * 3
        links.new(metres.outputs["UV"], mapping.inputs["Vector"])
        if surface.photo is not None:
            image = nodes.new("ShaderNodeTexImage")
            file = self.photo(surface.photo, surface.part)
            image.image, image.extension = self.bpy.data.images.load(str(file)), "MIRROR"
            links.new(mapping.outputs["Vector"], image.inputs["Vector"])
            links.new(image.outputs["Color"], shader.inputs["Base Color"])
            return material
        kind, output, inputs = {
            "noise": ("TexNoise", "Fac", {"Scale": 3.0, "Detail": 8.0, "Roughness": 0.65}),
            "checker": ("TexChecker", "Fac", {"Scale": 2.0}),
            "brick": ("TexBrick", "Fac", {"Scale": 4.0}),
            "wood": ("TexWave", "Fac", {"Scale": 2.0, "Distortion": 9.0, "Detail": 3.0, "Detail Scale": 0.4}),
            "cells": ("TexVoronoi", "Distance", {"Scale": 5.0}),
            "plain": ("TexNoise", "Fac", {"Scale": 60.0, "Detail": 2.0}),
        }[surface.pattern]
        texture, mix, grain, shade = (nodes.new(f"ShaderNode{name}") for name in (kind, "MixRGB", "TexNoise", "MixRGB"))
        for name, value in inputs.items():
            texture.inputs[name].default_value = value
        links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        links.new(texture.outputs[output], mix.inputs["Fac"])
        first, second = surface.colours
        if surface.pattern == "plain":
            second = (0.9 * first[0], 0.9 * first[1], 0.9 * first[2])
        mix.inputs["Color1"].default_value, mix.inputs["Color2"].default_value = (*first, 1), (*second, 1)
        shade.blend_type, grain.inputs["Scale"].default_value, grain.inputs["Detail"].default_value = (
            "OVERLAY",
            1.3,
            9.0,
        )
        shade.inputs["Fac"].default_value = 0.5
        links.new(metres.outputs["UV"], grain.inputs["Vector"])
        links.new(mix.outputs[0], shade.inputs["Color1"])
        links.new(grain.outputs["Fac"], shade.inputs["Color2"])
        links.new(shade.outputs[0], shader.inputs["Base Color"])
        return material


def improve(material: Any) -> None:
    """Mend what comes of an MTL file: transparent textures, missing ones, and colours that give back no light."""
    if material is None or material.node_tree is None:
        return
    links = material.node_tree.links
    for node in material.node_tree.nodes:
        if node.bl_idname != "ShaderNodeBsdfPrincipled":
            continue
        colour, alpha = node.inputs["Base Color"], node.inputs["Alpha"]
        texture = colour.links[0].from_node if colour.is_linked else None
        if texture is not None and texture.bl_idname == "ShaderNodeTexImage":
            if texture.image is None or not texture.image.size[0]:
                links.remove(colour.links[0])  # a few name a file of their author's; the plain colour is left
            elif texture.image.depth == 32 and not alpha.is_linked:
                links.new(texture.outputs["Alpha"], alpha)  # leaves; Blender's reader heeds only a map of its own
        if not colour.is_linked:
            colour.default_value = [max(0.02, value) for value in colour.default_value]
