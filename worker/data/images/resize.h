// Changes of an image's channels and size. Internal to worker/data.
//
// Determinism: whole numbers only, so the result is the same on every machine.
#pragma once

#include <cstdint>

#include "worker/data/images/image.h"

namespace espalier::worker::data {

// The image with 1 channel (grey = 0.299 red + 0.587 green + 0.114 blue, ITU-R BT.601) or with 3
// (grey in each).
Image WithChannels(Image image, int64_t channels);

// The middle of the image, scaled until it just covers `height` × `width`, cut on both sides alike.
// Bilinear: an output pixel is the mean of the input pixels around its place, weighted by a
// triangle whose half-width is one pixel of the coarser of the two images, each axis rounded to the
// nearest byte. An image of this size is returned as it is.
// Memory: see ScalingBytes().
Image ScaledAndCropped(Image image, int64_t height, int64_t width);

// What ScaledAndCropped() takes beside the image it is given.
int64_t ScalingBytes(const ImageDims& from, int64_t height, int64_t width);

}  // namespace espalier::worker::data
