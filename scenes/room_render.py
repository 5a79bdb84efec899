"""Builds a scene of `scenes.room_scene` in Blender and renders it: light by path tracing, depth exactly. Needs bpy.

One `Renderer` holds Blender's one scene; building another scene replaces it. Depth is rendered by itself, one ray
through the middle of each pixel of a pinhole camera, so that neither antialiasing nor a wide aperture mixes surfaces.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens.console.errors import MissingError
from deeplens.model.contract import DEPTH_SIZE
from deeplens.scenes.furniture import Model, placement, unpack
from deeplens.scenes.room_cameras import card_yaw
from deeplens.scenes.room_figures import build_person
from deeplens.scenes.room_growth import meshes
from deeplens.scenes.room_materials import Materials, improve
from deeplens.scenes.room_scene import Box, Camera, Item, Person, Picture, Scene, Shape, Surface, Waves
from deeplens.scenes.sources import load_cutout

Array = NDArray[np.float32]
Vertices = list[tuple[float, float, float]]

HORIZON = 1e9
"""Metres: what Cycles gives where no surface is met is beyond."""


class Renderer:
    """Blender with one scene in it. Raises MissingError without Blender's Python module."""

    def __init__(self, *, samples: int = 6, threads: int = 1) -> None:
        try:
            import bpy
            import OpenEXR
        except ImportError as error:
            raise MissingError(
                f"rendering needs {error.name}: make a separate Python 3.11 environment and run there"
                " `pip install --group rooms` (pip 25.1 or newer)"
            ) from error
        self.bpy, self.exr = bpy, OpenEXR
        self.samples, self.threads = samples, threads

    def build(self, scene: Scene, scratch: Path) -> None:
        """Replace what is in Blender by `scene`. `scratch`: a folder for files on the way, until the next scene."""
        bpy = self.bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scratch = scratch
        self.cards: list[tuple[Item, Any]] = []
        self._meshes: dict[str, tuple[Any, Array, Array]] = {}
        self._shapes: dict[Shape, list[Any]] = {}
        self.materials = Materials(bpy, scratch)
        self._set_up()
        self._sky(scene)
        if scene.room is None:
            self._terrain(scene.waves, scene.ground)
        else:
            self._room(scene)
        for box in scene.boxes:
            self._box(box)
        for picture in scene.pictures:
            self._picture(picture)
        for number, item in enumerate(scene.items, 1):
            for thing in self._item(item):
                thing.pass_index = number
        for lamp in scene.lamps:
            light = bpy.data.lights.new("lamp", "AREA")
            light.energy, light.color, light.size = lamp.power, lamp.colour, lamp.size
            self._link("lamp", light).location = lamp.position

    def depth(self, camera: Camera) -> Array:
        """Depth (320, 320) in metres along the optical axis, at the pixels' middles; inf where there is nothing."""
        return self.surfaces(camera)[0]

    def surfaces(self, camera: Camera) -> tuple[Array, NDArray[np.int64]]:
        """What the rays through the pixels' middles meet first.

        Depth (320, 320) as `depth` gives it, and the number (320, 320) of the scene's item, −1 for anything else.
        """
        scene = self.bpy.context.scene
        self._look(replace(camera, f_number=None))
        scene.cycles.samples, scene.cycles.use_denoising = 1, False
        scene.cycles.max_bounces, scene.cycles.filter_width = 0, 0.01
        self.bpy.context.view_layer.use_pass_object_index = True
        depth, items = (
            found[..., 0] for found in self._render(("Depth.V", "Depth.Z"), ("Object Index.V", "Object Index.X"))
        )
        depth = np.where(depth < HORIZON, depth, np.inf).astype(np.float32)
        return depth, np.where(np.isfinite(depth), np.rint(items), 0).astype(np.int64) - 1

    def light(self, camera: Camera) -> Array:
        """Linear light (320, 320, 3), ≥ 0, in Blender's own unit."""
        cycles = self.bpy.context.scene.cycles
        self._look(camera)
        cycles.samples, cycles.use_denoising = self.samples * (2 if camera.f_number else 1), True
        cycles.max_bounces, cycles.filter_width = 3, 1.5
        (light,) = self._render(("Combined",))
        return np.maximum(light[..., :3], 0)

    def _set_up(self) -> None:
        scene = self.bpy.context.scene
        scene.render.engine = "CYCLES"
        scene.render.resolution_x = scene.render.resolution_y = DEPTH_SIZE
        scene.render.resolution_percentage = 100
        scene.render.use_persistent_data = True
        scene.render.threads_mode, scene.render.threads = "FIXED", self.threads
        scene.render.filepath = str(self.scratch / "render.exr")
        settings = scene.render.image_settings
        settings.media_type, settings.file_format, settings.color_depth = (
            "MULTI_LAYER_IMAGE",
            "OPEN_EXR_MULTILAYER",
            "32",
        )
        settings.use_exr_interleave = True  # of several parts, Blender writes none whose pixels are not square
        scene.view_layers[0].use_pass_z = True
        # Glass is a surface. Above what it lets through, Cycles ends some rays there and gives them no depth at all.
        scene.view_layers[0].pass_alpha_threshold = 0.05
        cycles = scene.cycles
        cycles.device, cycles.denoiser, cycles.use_adaptive_sampling = "CPU", "OPENIMAGEDENOISE", False
        cycles.denoising_quality, cycles.denoising_prefilter = "FAST", "NONE"
        cycles.diffuse_bounces, cycles.glossy_bounces, cycles.transmission_bounces = 2, 2, 3
        cycles.transparent_max_bounces = 12
        cycles.sample_clamp_indirect, cycles.caustics_reflective, cycles.caustics_refractive = 4.0, False, False
        camera = self.bpy.data.cameras.new("camera")
        camera.clip_start, camera.clip_end, camera.sensor_fit = 0.01, 5000.0, "HORIZONTAL"
        scene.camera = self._link("camera", camera)

    def _link(self, name: str, data: object) -> Any:
        thing = self.bpy.data.objects.new(name, data)
        self.bpy.context.scene.collection.objects.link(thing)
        return thing

    def _look(self, camera: Camera) -> None:
        """Point Blender's camera, and turn the cut-outs to it."""
        scene = self.bpy.context.scene
        scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = max(1, camera.aspect), max(1, 1 / camera.aspect)
        thing = scene.camera
        thing.rotation_mode = "ZXY"  # roll about the optical axis, then pitch, then yaw
        from mathutils import Euler, Matrix

        turn = Matrix.Rotation(camera.yaw, 4, "Z") @ Matrix.Rotation(pi / 2 + camera.pitch, 4, "X")
        thing.matrix_world = Matrix.Translation(camera.position) @ turn @ Matrix.Rotation(camera.roll, 4, "Z")
        thing.data.sensor_width, thing.data.lens = camera.sensor[0], camera.focal
        thing.data.dof.use_dof = camera.f_number is not None
        if camera.f_number is not None:
            thing.data.dof.focus_distance, thing.data.dof.aperture_fstop = camera.focus, camera.f_number
        for item, card in self.cards:
            card.rotation_euler = Euler((0, 0, card_yaw(item, camera)))

    def _render(self, *passes: tuple[str, ...]) -> list[Array]:
        """The passes of one rendering, each by any of its names."""
        with _quiet():
            self.bpy.ops.render.render(write_still=True)
        with self.exr.File(str(self.scratch / "render.exr")) as file:
            channels = {name: channel for part in file.parts for name, channel in part.channels.items()}
            found = [next((each for each in channels if each.endswith(names)), None) for names in passes]
            if None in found:
                raise LookupError(f"not all of {passes} are among {list(channels)}")
            return [np.atleast_3d(channels[name].pixels).astype(np.float32) for name in found if name is not None]

    def _item(self, item: Item) -> list[Any]:
        """Blender's objects for an item."""
        if isinstance(item.what, Person):
            return build_person(self.bpy, self.materials, item, item.what, self._link)
        if isinstance(item.what, Shape):
            return self._shape(item, item.what)
        return [self._model(item, item.what) if isinstance(item.what, Model) else self._cutout(item, item.what)]

    def _sky(self, scene: Scene) -> None:
        world = self.bpy.data.worlds.new("sky")
        self.bpy.context.scene.world = world
        world.use_nodes = True
        nodes, links = world.node_tree.nodes, world.node_tree.links
        background = nodes["Background"]
        if scene.sky.hdri is None:
            sky = nodes.new("ShaderNodeTexSky")
            sky.sky_type = "MULTIPLE_SCATTERING"
            sky.sun_elevation, sky.sun_rotation = scene.sky.sun_elevation, scene.sky.turn
            background.inputs["Strength"].default_value = 0.3
        else:
            sky = nodes.new("ShaderNodeTexEnvironment")
            folder = Path(self.bpy.utils.resource_path("LOCAL")) / "datafiles" / "studiolights" / "world"
            sky.image = self.bpy.data.images.load(str(folder / f"{scene.sky.hdri}.exr"))
            mapping, position = nodes.new("ShaderNodeMapping"), nodes.new("ShaderNodeTexCoord")
            mapping.inputs["Rotation"].default_value = (0, 0, scene.sky.turn)
            links.new(position.outputs["Generated"], mapping.inputs["Vector"])
            links.new(mapping.outputs["Vector"], sky.inputs["Vector"])
        links.new(sky.outputs[0], background.inputs["Color"])

    def _mesh(self, name: str, vertices: Vertices, faces: Sequence[tuple[int, ...]], uv: Any, material: Any) -> Any:
        """An object of its own mesh; `uv` has one (u, v) for each corner of each face, in metres."""
        mesh = self.bpy.data.meshes.new(name)
        mesh.from_pydata(vertices, [], faces)
        mesh.uv_layers.new().data.foreach_set("uv", np.ravel(uv).astype(np.float32))
        mesh.materials.append(material)
        return self._link(name, mesh)

    def _terrain(self, waves: Waves, surface: Surface) -> None:
        steps = np.sinh(np.linspace(-4, 4, 161 if waves.terms else 2))
        sides = 400 * steps / steps[-1]
        vertices = [(float(x), float(y), waves(float(x), float(y))) for y in sides for x in sides]
        count = len(sides)
        corners = [row * count + column for row in range(count - 1) for column in range(count - 1)]
        faces = [(at, at + 1, at + count + 1, at + count) for at in corners]
        uv = [vertices[corner][:2] for face in faces for corner in face]
        ground = self._mesh("ground", vertices, faces, uv, self.materials.surface(surface))
        ground.data.shade_smooth()

    def _room(self, scene: Scene) -> None:
        assert scene.room is not None
        width, depth, height = scene.room
        for z, surface in ((0.0, scene.ground), (height, scene.ceiling)):
            self._quad(
                "floor", [(-width / 2, -depth / 2, z), (width / 2, depth / 2, z)], self.materials.surface(surface)
            )
        self._quad("outside", [(-300, -300, -0.6), (300, 300, -0.6)], self.materials.surface(scene.outside))
        for wall in set(range(4)) - {scene.open_wall}:
            half, away = (width / 2, depth / 2) if wall % 2 == 0 else (depth / 2, width / 2)
            holes = [window[1:] for window in scene.windows if window[0] == wall]
            left, right, lower, upper = holes[0] if holes else (half, half, 0.0, height)
            parts = [
                (-half, left, 0.0, height),
                (left, right, 0.0, lower),
                (left, right, upper, height),
                (right, half, 0.0, height),
            ]
            for start, end, bottom, top in parts:
                if end - start > 1e-4 and top - bottom > 1e-4:
                    corners = [(start, bottom), (end, bottom), (end, top), (start, top)]
                    vertices = [(x, -away, z) for x, z in corners]
                    thing = self._mesh("wall", vertices, [(0, 1, 2, 3)], corners, self.materials.surface(scene.walls))
                    thing.rotation_euler[2] = wall * pi / 2

    def _quad(self, name: str, ends: Vertices, material: Any) -> None:
        (left, near, z), (right, far, _) = ends
        corners = [(left, near), (right, near), (right, far), (left, far)]
        self._mesh(name, [(x, y, z) for x, y in corners], [(0, 1, 2, 3)], corners, material)

    def _box(self, box: Box) -> None:
        width, depth, height = box.size
        signs = [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0), (-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]
        vertices: Vertices = [(x * width / 2, y * depth / 2, z * height) for x, y, z in signs]
        sides = [(0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
        top = (4, 5, 6, 7)
        uv = []
        for number, side in enumerate(sides):
            axis = number % 2
            uv += [(vertices[corner][axis], vertices[corner][2]) for corner in side]
        uv += [vertices[corner][:2] for corner in top]
        thing = self._mesh("box", vertices, [*sides, top], uv, self.materials.surface(box.surface))
        thing.location, thing.rotation_euler[2] = box.position, box.yaw

    def _upright(self, name: str, size: tuple[float, float], material: Any) -> Any:
        """A rectangle that faces +y, its lower edge at the origin, with a picture once on it."""
        width, height = size
        vertices: Vertices = [(width / 2, 0, 0), (-width / 2, 0, 0), (-width / 2, 0, height), (width / 2, 0, height)]
        return self._mesh(name, vertices, [(0, 1, 2, 3)], [(0, 0), (1, 0), (1, 1), (0, 1)], material)

    def _picture(self, picture: Picture) -> None:
        thing = self._upright(
            "picture", picture.size, self.materials.image(self.materials.photo(picture.photo), alpha=False)
        )
        thing.location, thing.rotation_euler[2] = picture.position, picture.yaw

    def _cutout(self, item: Item, path: Path) -> Any:
        card = self._upright(
            "card", (item.size[0], item.size[2]), self.materials.image(self.materials.cutout(path), alpha=True)
        )
        card.location = item.position
        self.cards.append((item, card))
        return card

    def _shape(self, item: Item, shape: Shape) -> list[Any]:
        if shape not in self._shapes:
            made = []
            for mesh, surface in meshes(shape):
                material = self.materials.surface(surface)
                thing = self._mesh(shape.kind, mesh.vertices.tolist(), mesh.faces.tolist(), mesh.uv, material)
                thing.data.shade_smooth()
                made.append(thing.data)
                self.bpy.data.objects.remove(thing)
            self._shapes[shape] = made
        things = [self._link(shape.kind, data) for data in self._shapes[shape]]
        for thing in things:
            thing.location, thing.rotation_euler[2], thing.scale = item.position, item.yaw, (item.size[2],) * 3
        return things

    def _model(self, item: Item, model: Model) -> Any:
        if model.key not in self._meshes:
            with _quiet():
                self.bpy.ops.wm.obj_import(
                    filepath=str(unpack(model, self.scratch)), forward_axis="Y", up_axis="Z", use_split_objects=False
                )
            thing = self.bpy.context.selected_objects[0]
            mesh = thing.data
            self.bpy.data.objects.remove(thing)
            for material in mesh.materials:
                improve(material)
            points = np.empty((len(mesh.vertices), 3), np.float32)
            mesh.vertices.foreach_get("co", points.ravel())
            used = np.empty(len(mesh.loops), np.int32)
            mesh.loops.foreach_get("vertex_index", used)
            turned = points[np.unique(used)] @ np.reshape(model.rotation, (3, 3)).T
            self._meshes[model.key] = mesh, turned.min(0), turned.max(0)
        mesh, lower, upper = self._meshes[model.key]
        scale = item.size[2] / model.size[2]
        matrix = placement(model, lower, upper, position=item.position, yaw=item.yaw, scale=scale)
        from mathutils import Matrix

        thing = self._link("model", mesh)
        thing.matrix_world = Matrix(matrix.tolist())
        return thing


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Blender talks on the process's own standard output, past Python's."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def cutout_shape(path: Path) -> float:
    """Width / height of a cut-out, as `load_cutout` crops it."""
    height, width = load_cutout(path).shape[:2]
    return width / height
