"""Small canvases, and the specs of the classes they use."""

from clip_vae_lora.headless.workflow.graph import server_spec

LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def described(required, outputs=(), output_node=False, optional=None, **more):
    """A class as /object_info describes it."""
    return {
        "input": {"required": required, "optional": optional or {}},
        "output": list(outputs),
        "output_node": output_node,
        **more,
    }


SCALE = {
    "image": ["IMAGE"],
    "upscale_method": [["nearest", "area", "lanczos"]],
    "width": ["INT", {"default": 512}],
    "height": ["INT", {"default": 512}],
    "crop": [["disabled", "center"]],
}
CODEC = {"key": "mp4", "inputs": {"required": {"codec": ["COMFY_DYNAMICCOMBO_V3", {"options": []}]}}}
CODEC["inputs"]["required"]["codec"][1]["options"] = [
    {"key": "auto", "inputs": {}},
    {"key": "h264", "inputs": {"required": {"crf": ["FLOAT", {"default": 23}]}}},
]
INFO = {
    "Make": described({"width": ["INT", {"default": 512}], "height": ["INT", {"default": 512}]}, ["IMAGE"]),
    "Scale": described(SCALE, ["IMAGE"]),
    "Invert": described({"image": ["IMAGE"]}, ["IMAGE"]),
    "Preview": described({"images": ["IMAGE"]}, output_node=True),
    "SaveImage": described(
        {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "pic"}]}, output_node=True, display_name="Save"
    ),
    "SaveVideo": described(
        {
            "images": ["IMAGE"],
            "format": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {}}, CODEC]}],
            "loop": ["BOOLEAN", {"default": False}],
        },
        output_node=True,
    ),
    "Compare": described({"compare_view": ["IMAGECOMPARE", {}], "a": ["IMAGE"]}, output_node=True),
    "Colour": described({"color": ["COLOR", {"default": "#ffffff"}], "size": ["INT", {}]}, ["IMAGE"]),
    "Crop": described({"image": ["IMAGE"], "region": ["BOUNDING_BOX", {}], "pad": ["INT", {}]}, ["IMAGE"]),
    "Curve": described({"curve": ["CURVE", {}], "n": ["INT", {}]}, ["IMAGE"]),
    "Paint": described({"mask": ["STRING", {"widgetType": "PAINTER"}], "bg": ["COLOR", {}]}, ["IMAGE"]),
    "Batch": described(
        {
            "images": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"image": ["IMAGE"]}}, "prefix": "image", "min": 1, "max": 4}},
            ]
        },
        ["IMAGE"],
    ),
    "Load3D": described(
        {"model_file": [["none"]], "image": ["LOAD_3D", {}], "width": ["INT", {}]}, ["IMAGE", "STRING", "FILE_3D_ANY"]
    ),
    "Sum": described(
        {
            "values": [
                "COMFY_AUTOGROW_V3",
                {"template": {"input": {"required": {"value": ["FLOAT,INT"]}}, "names": ["a", "b"], "min": 1}},
            ]
        },
        ["FLOAT"],
    ),
    "CustomCombo": described({"choice": ["COMBO", {"options": []}]}, ["STRING", "INT"]),
    "Show": described({"source": ["*"]}, output_node=True),
    "Text": described({"text": ["STRING", {"dynamicPrompts": True}]}, ["STRING"]),
}
SPECS = {name: server_spec(found) for name, found in INFO.items()}


def node(number, kind, inputs=(), values=None, outputs=("IMAGE",), **more):
    """A node as the canvas saves it; inputs are (name, link), or (name, link, widget) with any truth as widget."""
    slots = [
        {"name": name, "type": "*", "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, link, *widget in inputs
    ]
    found = {"id": number, "type": kind, "mode": 0, "inputs": slots, "properties": {}}
    found["outputs"] = [{"name": one, "type": one, "links": []} for one in outputs]
    return found | ({} if values is None else {"widgets_values": values}) | more


def canvas(nodes, links, **more):
    """Version 0.4; links are (number, from, output, to, input)."""
    return {"version": 0.4, "last_node_id": 30, "nodes": nodes, "links": [[*link, "*"] for link in links], **more}


def subgraph(own, nodes, links, inputs=(), outputs=()):
    """What a subgraph is; inputs and outputs are (name, links)."""
    return {
        "id": own,
        "name": f"the {own}",
        "nodes": nodes,
        "links": [dict(zip(LINK, [*link, "*"])) for link in links],
        "inputs": [{"name": name, "type": "*", "linkIds": list(found)} for name, found in inputs],
        "outputs": [{"name": name, "type": "*", "linkIds": list(found)} for name, found in outputs],
    }


def inner(mode=0):
    """Two subgraphs, one in the other: "scale" shows its width and crop, "outer" only the width."""
    scaling = subgraph(
        "scale",
        [node(10, "Scale", [("image", 1), ("width", 2, 1), ("crop", 3, 1)], ["area", 11, 12, "center"])],
        [(1, -10, 0, 10, 0), (2, -10, 1, 10, 1), (3, -10, 2, 10, 2), (4, 10, 0, -20, 0)],
        [("image", [1]), ("width", [2]), ("crop", [3])],
        [("IMAGE", [4])],
    )
    around = subgraph(
        "outer",
        [
            node(20, "scale", [("image", 21), ("width", 22, 1), ("crop", None, 1)], [55, "disabled"], mode=mode),
            node(21, "Invert", [("image", 23)]),
        ],
        [(21, -10, 0, 20, 0), (22, -10, 1, 20, 1), (23, 20, 0, 21, 0), (24, 21, 0, -20, 0)],
        [("image", [21]), ("width", [22])],
        [("IMAGE", [24])],
    )
    return {"subgraphs": [scaling, around]}


def using(kind, values, mode=0, inner_mode=0, **more):
    """1 Make -> 3, an instance of a subgraph -> 2 Preview."""
    shows = [("image", 1), ("width", None, 1)] + ([("crop", None, 1)] if kind == "scale" else [])
    nodes = [
        node(1, "Make", (), [64, 65]),
        node(3, kind, shows, values, mode=mode, **more),
        node(2, "Preview", [("images", 2)]),
    ]
    return canvas(nodes, [(1, 1, 0, 3, 0), (2, 3, 0, 2, 0)], definitions=inner(inner_mode))
