"""Pictures and words compared by CLIP: classes, similarity, ranks, gates, questions."""

from . import encode_image, gate, load, questions, rank, select, similarity, zero_shot

NODES = {
    **load.NODES,
    **encode_image.NODES,
    **zero_shot.NODES,
    **similarity.NODES,
    **rank.NODES,
    **select.NODES,
    **gate.NODES,
    **questions.NODES,
}
