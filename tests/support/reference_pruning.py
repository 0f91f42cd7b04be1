"""Pruning of LLaMA-style language models in float64, straight from the papers; what golden tests compare with.

Nothing here knows the product: tensors in Hugging Face's names in, perplexities and pruned tensors out. Sources: Touvron et al.,
arXiv 2302.13971 (the model); Han et al. 2015 (magnitude); Sun et al., arXiv 2306.11695 (Wanda); Frantar and Alistarh, arXiv
2301.00774 (SparseGPT); Zhang et al., arXiv 2310.08915 (DSnoT). A sequence is an array of token numbers: inputs, and one target more.
"""

import dataclasses

import numpy

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclasses.dataclass
class Moments:
    """Of the inputs of one layer, by column."""

    sums: numpy.ndarray  # Σ over the tokens of a sequence, mean over sequences
    squares: numpy.ndarray
    variance: numpy.ndarray  # population variance of each sequence, mean over sequences
    gram: numpy.ndarray  # XᵀX, mean over sequences


class Model:
    """One forward pass at a time over all sequences, block by block."""

    def __init__(self, config, tensors):
        self.config = config
        self.tensors = {name: numpy.asarray(t, dtype=numpy.float64) for name, t in tensors.items()}

    def weight(self, block, layer):
        return self.tensors[f"model.layers.{block}.{layer}.weight"]

    def blocks(self):
        return range(self.config["num_hidden_layers"])

    def embed(self, sequences):
        return self.tensors["model.embed_tokens.weight"][numpy.asarray(sequences)[:, :-1]]

    def norm(self, x, name):
        scale = numpy.sqrt(numpy.mean(x * x, axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.tensors[name]

    def rotate(self, x):
        """Rotary positions; x: sequences × heads × tokens × values of a head."""
        half = x.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-numpy.arange(half) / half)
        angles = numpy.arange(x.shape[-2])[:, None] * frequencies
        a, b = x[..., :half], x[..., half:]
        cos, sin = numpy.cos(angles), numpy.sin(angles)
        return numpy.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def heads(self, x, count):
        sequences, tokens, width = x.shape
        return x.reshape(sequences, tokens, count, width // count).transpose(0, 2, 1, 3)

    def block(self, x, number):
        """The block's output, and the input of each of its linear layers."""
        prefix, inputs = f"model.layers.{number}.", {}

        def linear(layer, values):
            inputs[layer] = values
            return values @ self.weight(number, layer).T

        h = self.norm(x, prefix + "input_layernorm.weight")
        count, shared = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        q = self.rotate(self.heads(linear("self_attn.q_proj", h), count))
        k = self.rotate(self.heads(linear("self_attn.k_proj", h), shared))
        v = self.heads(linear("self_attn.v_proj", h), shared)
        k, v = (numpy.repeat(part, count // shared, axis=1) for part in (k, v))
        scores = q @ k.transpose(0, 1, 3, 2) / numpy.sqrt(q.shape[-1])
        tokens = x.shape[1]
        scores[..., numpy.triu(numpy.ones((tokens, tokens), dtype=bool), 1)] = -numpy.inf
        scores = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
        x = x + linear("self_attn.o_proj", mixed.transpose(0, 2, 1, 3).reshape(x.shape))
        h = self.norm(x, prefix + "post_attention_layernorm.weight")
        gate = linear("mlp.gate_proj", h)
        up = linear("mlp.up_proj", h)
        return x + linear("mlp.down_proj", gate / (1 + numpy.exp(-gate)) * up), inputs

    def perplexity(self, sequences):
        x = self.embed(sequences)
        for number in self.blocks():
            x, _ = self.block(x, number)
        logits = self.norm(x, "model.norm.weight") @ self.tensors["model.embed_tokens.weight"].T
        top = logits.max(axis=-1, keepdims=True)
        whole = top[..., 0] + numpy.log(numpy.exp(logits - top).sum(axis=-1))
        targets = numpy.asarray(sequences)[:, 1:]
        found = numpy.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return float(numpy.exp(numpy.mean(whole - found)))


def moments(x):
    """x: sequences × tokens × columns."""
    return Moments(
        sums=x.sum(axis=1).mean(axis=0),
        squares=(x * x).sum(axis=1).mean(axis=0),
        variance=x.var(axis=1).mean(axis=0),
        gram=numpy.einsum("stc,std->cd", x, x) / x.shape[0],
    )


def drop_smallest(scores, count):
    """A mask of `scores`, rows of which lose the `count` smallest."""
    mask = numpy.ones(scores.shape, dtype=bool)
    order = numpy.argsort(scores, axis=1, kind="stable")
    numpy.put_along_axis(mask, order[:, :count], False, axis=1)
    return mask


def by_rows(scores, sparsity, pattern):
    rows, columns = scores.shape
    if pattern is None:
        return drop_smallest(scores, int(columns * sparsity))
    kept, group = pattern
    return drop_smallest(scores.reshape(-1, group), group - kept).reshape(rows, columns)


def magnitude(weights, _, sparsity=0.5, pattern=None):
    scores = numpy.abs(weights)
    if pattern is not None:
        return weights * by_rows(scores, sparsity, pattern)
    whole = drop_smallest(scores.reshape(1, -1), int(scores.size * sparsity))
    return weights * whole.reshape(scores.shape)


def wanda_scores(weights, of):
    return numpy.abs(weights) * numpy.sqrt(of.squares)


def wanda(weights, of, sparsity=0.5, pattern=None):
    return weights * by_rows(wanda_scores(weights, of), sparsity, pattern)


def wanda_cumulative(weights, of, sparsity=0.5):
    """Rows lose what holds the same share of their scores: the authors' `use_variant`."""
    scores = wanda_scores(weights, of)
    ordered = numpy.sort(scores, axis=1)
    sums = numpy.cumsum(ordered, axis=1)
    low, high, share = 0.0, 0.8, 0.4

    def counts():
        return (sums <= share * sums[:, -1:]).sum(axis=1)

    while abs(counts().sum() / scores.size - sparsity) > 0.001 and high - low >= 0.001:
        if counts().sum() / scores.size > sparsity:
            high = share
        else:
            low = share
        share = (low + high) / 2
    rows = [drop_smallest(row[None], count)[0] for row, count in zip(scores, counts())]
    return weights * numpy.array(rows)


def sparsegpt(weights, of, sparsity=0.5, pattern=None, damping=0.01, block=128):
    """The authors' `fasterprune`, with one block of columns after the other."""
    weights = weights.copy()
    hessian = 2 * of.gram
    diagonal = numpy.arange(len(hessian))
    dead = hessian[diagonal, diagonal] == 0
    hessian[dead, dead] = 1
    weights[:, dead] = 0
    hessian[diagonal, diagonal] += damping * numpy.mean(hessian[diagonal, diagonal])
    upper = numpy.linalg.cholesky(numpy.linalg.inv(hessian)).T
    scale = numpy.diag(upper)
    for first in range(0, weights.shape[1], block):
        last = min(first + block, weights.shape[1])
        errors = numpy.zeros((len(weights), last - first))
        kept = numpy.ones((len(weights), last - first), dtype=bool)
        if pattern is None:
            scores = (weights[:, first:last] / scale[first:last]) ** 2
            kept = drop_smallest(scores.reshape(1, -1), int(scores.size * sparsity)).reshape(scores.shape)
        for j in range(first, last):
            if pattern is not None and (j - first) % pattern[1] == 0:
                group = slice(j, j + pattern[1])
                scores = (weights[:, group] / scale[group]) ** 2
                kept[:, j - first : j - first + pattern[1]] = drop_smallest(scores, pattern[1] - pattern[0])
            value = weights[:, j] * kept[:, j - first]
            error = (weights[:, j] - value) / scale[j]
            weights[:, j + 1 : last] -= numpy.outer(error, upper[j, j + 1 : last])
            weights[:, j] = value
            errors[:, j - first] = error
        weights[:, last:] -= errors @ upper[first:last, last:]
    return weights


def dsnot_row(contribution, metric, divisor, kept, cycles, threshold):
    """Exchanges within one row; `kept` is changed."""
    error = contribution[~kept].sum()
    untouched = numpy.ones(len(kept), dtype=bool)
    for _ in range(cycles):
        if abs(error) <= threshold:
            return
        candidates = numpy.flatnonzero(~kept & untouched)
        if len(candidates) == 0:
            return
        keys = contribution[candidates] / divisor[candidates]
        grown = candidates[numpy.argmax(keys) if error > 0 else numpy.argmin(keys)]
        if contribution[grown] * error <= 0:
            return
        partners = numpy.flatnonzero(kept & untouched & (contribution * error < 0))
        if len(partners) == 0:
            return
        pruned = partners[numpy.argmin(metric[partners])]
        error += contribution[pruned] - contribution[grown]
        kept[grown], kept[pruned] = True, False
        untouched[[grown, pruned]] = False


def dsnot(weights, of, tokens, sparsity=0.5, init="wanda", cycles=None):
    """Of an unstructured mask; `tokens`: the length of a sequence, which the threshold follows."""
    scores = numpy.abs(weights) if init == "magnitude" else wanda_scores(weights, of)
    mask = by_rows(scores, sparsity, None)
    cycles = cycles or max(1, round(50 * weights.shape[1] / 4096))
    for row, kept in zip(weights, mask):
        metric = numpy.abs(row) * numpy.sqrt(of.squares)
        dsnot_row(row * of.sums, metric, of.variance, kept, cycles, 0.1 * tokens / 2048)
    return weights * mask


def prune(config, tensors, sequences, rule):
    """The pruned model. `rule(layer, weights, moments)` gives a layer's new weights.

    A block is calibrated whole before any of its layers is pruned, on what the blocks pruned before it give out.
    """
    model = Model(config, tensors)
    x = model.embed(sequences)
    for number in model.blocks():
        _, inputs = model.block(x, number)
        for layer in ATTENTION + FEED_FORWARD:
            name = f"model.layers.{number}.{layer}.weight"
            model.tensors[name] = rule(layer, model.tensors[name], moments(inputs[layer]))
        x, _ = model.block(x, number)
    return model
