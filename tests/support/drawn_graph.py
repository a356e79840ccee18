"""Where the canvas draws nodes and links: a link is a curve from an output to an input, bent by its reroutes."""

import math

Point = tuple[float, float]
Box = tuple[float, float, float, float]
TITLE_PX = 30
SLOT_PX, EDGE_PX = 20, 10
FLAT_PX = 80  # a reroute bends the curve within this many pixels

RIM_PX = 14  # a link begins and ends that far inside its own nodes


def box(node: dict) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    height = 0 if node["flags"].get("collapsed") else height
    return x, y - TITLE_PX, x + width, y + height


def meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def hidden_links(graph: dict) -> list[tuple[str, str, str]]:
    """Of each link that runs behind a node: the nodes it joins, and that node. All as saved, not as after a run."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    hidden = []
    for number, source, output, target, taken, _ in graph["links"]:
        curve = drawn([out_of(nodes[source], output), *reroutes(graph, number), into(nodes[target], taken)])
        for key, node in nodes.items():
            left, top, right, bottom = box(node)
            rim = RIM_PX if key in (source, target) else 0
            if any(left + rim < x < right - rim and top + rim < y < bottom - rim for x, y in curve):
                hidden.append((nodes[source]["type"], nodes[target]["type"], node["type"]))
    return hidden


def out_of(node: dict, slot: int) -> Point:
    (x, y), (width, _) = node["pos"], node["size"]
    return x + width - EDGE_PX + 1, y + (slot + 0.7) * SLOT_PX


def into(node: dict, slot: int) -> Point:
    """An input that is no widget has a row of its own; one that is lies beside its widget, in the node's lower half."""
    (x, y), (_, height) = node["pos"], node["size"]
    sockets = [place for place, one in enumerate(node["inputs"]) if not one.get("widget")]
    row = (sockets.index(slot) + 0.7) * SLOT_PX if slot in sockets else 0.6 * height
    return x + EDGE_PX, y + row


def reroutes(graph: dict, link: int) -> list[Point]:
    """The points that a link goes through, in its direction."""
    known = {one["id"]: one for one in graph["extra"].get("reroutes", [])}
    last = {one["id"]: one["parentId"] for one in graph["extra"].get("linkExtensions", [])}.get(link)
    points: list[Point] = []
    while last is not None:
        points.insert(0, tuple(known[last]["pos"]))
        last = known[last].get("parentId")
    return points


def drawn(points: list[Point], steps: int = 40) -> list[Point]:
    """The curve, a cubic Bezier between each two points, level at both of its ends."""
    angles = [0.0, *(_angle(*three) for three in zip(points, points[1:], points[2:])), 0.0]
    curve = []
    for place, (start, end) in enumerate(zip(points, points[1:])):
        reach = math.dist(start, end) / 4
        leaving = reach if place == 0 else min(FLAT_PX, reach)
        coming = reach if place == len(points) - 2 else min(FLAT_PX, reach)
        first, second = _moved(start, angles[place], leaving), _moved(end, angles[place + 1], -coming)
        curve += [_bezier(start, first, second, end, step / steps) for step in range(steps + 1)]
    return curve


def _angle(before: Point, here: Point, after: Point) -> float:
    """Half way between where a curve comes from and where it goes."""
    coming = math.atan2(here[1] - before[1], here[0] - before[0])
    half = (coming - math.atan2(after[1] - here[1], after[0] - here[0])) / 2
    if abs(half) > math.pi / 2:
        half -= math.copysign(math.pi, half)
    return coming - half


def _moved(point: Point, angle: float, length: float) -> Point:
    return point[0] + math.cos(angle) * length, point[1] + math.sin(angle) * length


def _bezier(start: Point, first: Point, second: Point, end: Point, at: float) -> Point:
    shares = (1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3
    x, y = (sum(share * point[axis] for share, point in zip(shares, (start, first, second, end))) for axis in (0, 1))
    return x, y
