// The kernels, written once over a vector type `Vec`; included by one file an instruction set, inside of a namespace of
// its own. Nothing inline from the standard library may be used here: the linker keeps one copy of such a function for
// the whole module, and it could be the one compiled for instructions that the machine lacks.

static inline float activated(float x, Activation activation) {
    switch (activation) {
        case Activation::relu:
            return 0.0f > x ? 0.0f : x;  // this way round, not-a-number stays what it is
        case Activation::relu6:
            x = 0.0f > x ? 0.0f : x;
            return 6.0f < x ? 6.0f : x;
        case Activation::silu:
            return x / (1.0f + ::expf(-x));
        default:
            return x;
    }
}

// What follows the sum: batch norm, residual, activation, and zeros between the map's rows.
template <int S>
static inline void finish(const Conv& conv, int64_t row, int64_t pixel, Vec* sum) {
    const uint32_t* mask = conv.mask + pixel;
    const int64_t channel = conv.channel[row];
    const Vec scale = Vec::all(conv.scale[row]), shift = Vec::all(conv.shift[row]);
    SSLPRUNE_UNROLL(32)
    for (int s = 0; s < S; ++s) sum[s] = Vec::fma(sum[s], scale, shift);
    if (conv.residual) {
        const float* residual = conv.residual + channel * conv.residual_plane + pixel;
        SSLPRUNE_UNROLL(32)
        for (int s = 0; s < S; ++s) sum[s] = Vec::add(sum[s], Vec::load(residual + s * Vec::width));
    }
    float* target = conv.target + channel * conv.target_plane + pixel;
    // This way round, not-a-number stays what it is.
    if (conv.activation == Activation::relu || conv.activation == Activation::relu6) {
        SSLPRUNE_UNROLL(32)
        for (int s = 0; s < S; ++s) sum[s] = Vec::max(Vec::all(0.0f), sum[s]);
    }
    if (conv.activation == Activation::relu6) {
        SSLPRUNE_UNROLL(32)
        for (int s = 0; s < S; ++s) sum[s] = Vec::min(Vec::all(6.0f), sum[s]);
    }
    SSLPRUNE_UNROLL(32)
    for (int s = 0; s < S; ++s) Vec::masked(sum[s], mask + s * Vec::width).store(target + s * Vec::width);
    if (conv.activation == Activation::silu)
        for (int64_t x = 0; x < S * Vec::width; ++x) target[x] = activated(target[x], Activation::silu);
}

// S vectors of every row's plane, summed up in S registers.
template <int S>
static void strip(const Conv& conv, int64_t first_row, int64_t last_row, int64_t pixel) {
    const float* source = conv.source + pixel;
    for (int64_t row = first_row; row < last_row; ++row) {
        Vec sum[S];
        const Vec bias = Vec::all(conv.bias[row]);
        SSLPRUNE_UNROLL(32)
        for (int s = 0; s < S; ++s) sum[s] = bias;
        const Tap* last = conv.taps + conv.starts[row + 1];
        for (const Tap* tap = conv.taps + conv.starts[row]; tap != last; ++tap) {
            const Vec value = Vec::all(tap->value);
            const float* read = source + tap->offset;
            SSLPRUNE_UNROLL(32)
            for (int s = 0; s < S; ++s) sum[s] = Vec::fma(value, Vec::load(read + s * Vec::width), sum[s]);
        }
        finish<S>(conv, row, pixel, sum);
    }
}

template <int S>
static void strip_of(int64_t vectors, const Conv& conv, int64_t first_row, int64_t last_row, int64_t pixel) {
    if constexpr (S > 0) {
        if (vectors == S)
            strip<S>(conv, first_row, last_row, pixel);
        else
            strip_of<S - 1>(vectors, conv, first_row, last_row, pixel);
    }
}

static void convolve(const Conv& conv, int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    constexpr int64_t each = kBlock / Vec::width;
    int64_t vector = first * each;
    const int64_t end = last * each;
    const int64_t most = conv.short_strips ? Vec::strip / 3 : Vec::strip;
    // Strips of nearly equal length: a short one at the end would read every tap for few sums.
    for (int64_t strips = (end - vector + most - 1) / most; strips > 0; --strips) {
        const int64_t length = (end - vector + strips - 1) / strips;
        strip_of<Vec::strip>(length, conv, first_row, last_row, vector * Vec::width);
        vector += length;
    }
}

// S vectors of the planes of kMerged rows.
template <int S>
static void merged_strip(const Conv& conv, int64_t group, int64_t pixel) {
    const int64_t first_row = group * kMerged;
    Vec sum[kMerged][S];
    SSLPRUNE_UNROLL(8)
    for (int r = 0; r < kMerged; ++r) {
        const Vec bias = Vec::all(first_row + r < conv.rows ? conv.bias[first_row + r] : 0.0f);
        SSLPRUNE_UNROLL(8)
        for (int s = 0; s < S; ++s) sum[r][s] = bias;
    }
    const float* source = conv.source + pixel;
    for (int32_t tap = conv.merged.starts[group]; tap < conv.merged.starts[group + 1]; ++tap) {
        const float* read = source + conv.merged.offsets[tap];
        const float* values = conv.merged.values + static_cast<int64_t>(tap) * kMerged;
        Vec numbers[S];
        SSLPRUNE_UNROLL(8)
        for (int s = 0; s < S; ++s) numbers[s] = Vec::load(read + s * Vec::width);
        SSLPRUNE_UNROLL(8)
        for (int r = 0; r < kMerged; ++r) {
            const Vec value = Vec::all(values[r]);
            SSLPRUNE_UNROLL(8)
            for (int s = 0; s < S; ++s) sum[r][s] = Vec::fma(value, numbers[s], sum[r][s]);
        }
    }
    SSLPRUNE_UNROLL(8)
    for (int r = 0; r < kMerged; ++r)
        if (first_row + r < conv.rows) finish<S>(conv, first_row + r, pixel, sum[r]);
}

template <int S>
static void merged_strip_of(int64_t vectors, const Conv& conv, int64_t group, int64_t pixel) {
    if constexpr (S > 0) {
        if (vectors == S)
            merged_strip<S>(conv, group, pixel);
        else
            merged_strip_of<S - 1>(vectors, conv, group, pixel);
    }
}

// A group's taps stay near while all pixels pass them.
static void convolve_merged(const Conv& conv, int64_t first_group, int64_t last_group, int64_t first, int64_t last) {
    constexpr int64_t each = kBlock / Vec::width;
    for (int64_t group = first_group; group < last_group; ++group) {
        int64_t vector = first * each;
        const int64_t end = last * each;
        for (int64_t strips = (end - vector + Vec::merged - 1) / Vec::merged; strips > 0; --strips) {
            const int64_t length = (end - vector + strips - 1) / strips;
            merged_strip_of<Vec::merged>(length, conv, group, vector * Vec::width);
            vector += length;
        }
    }
}

// Four rows at a time, since one alone waits for every addition; each in the order of its taps, as in a map.
static void dot(const Conv& conv, int64_t first_row, int64_t last_row) {
    constexpr int kRows = 4;
    for (int64_t row = first_row; row < last_row; row += kRows) {
        const int count = last_row - row < kRows ? static_cast<int>(last_row - row) : kRows;
        const Tap *tap[kRows], *end[kRows];
        float sum[kRows];
        int64_t common = -1;
        for (int r = 0; r < count; ++r) {
            tap[r] = conv.taps + conv.starts[row + r];
            end[r] = conv.taps + conv.starts[row + r + 1];
            sum[r] = conv.bias[row + r];
            if (common < 0 || end[r] - tap[r] < common) common = end[r] - tap[r];
        }
        if (count == kRows)
            for (int64_t i = 0; i < common; ++i)
                for (int r = 0; r < kRows; ++r)
                    sum[r] = Vec::fma(tap[r][i].value, conv.source[tap[r][i].offset], sum[r]);
        for (int r = 0; r < count; ++r) {
            if (count == kRows) tap[r] += common;
            for (; tap[r] != end[r]; ++tap[r]) sum[r] = Vec::fma(tap[r]->value, conv.source[tap[r]->offset], sum[r]);
            const int64_t channel = conv.channel[row + r];
            sum[r] = Vec::fma(sum[r], conv.scale[row + r], conv.shift[row + r]);
            if (conv.residual) sum[r] += conv.residual[channel * conv.residual_plane];
            conv.target[channel * conv.target_plane] = activated(sum[r], conv.activation);
        }
    }
}

static void every_second(const float* read, float* write, int64_t count) {
    for (int64_t x = 0; x < count; ++x) write[x] = read[2 * x];
}

static inline float larger(float a, float b) { return (b > a || b != b) ? b : a; }

static void max_pool(const Pool& pool, int64_t first, int64_t last) {
    float* tallest = pool.scratch;
    const int64_t lanes = pool.lanes, width = pool.source_width, row_length = width * lanes;
    for (int64_t channel = first; channel < last; ++channel) {
        const float* source = pool.source + channel * pool.source_plane;
        for (int64_t y = 0; y < pool.target_height; ++y) {
            for (int64_t x = 0; x < row_length; ++x) tallest[x] = -kInfinity;
            for (int64_t k = 0; k < pool.kernel[0]; ++k) {
                const int64_t row = y * pool.stride[0] - pool.padding[0] + k * pool.dilation[0];
                if (row < 0 || row >= pool.source_height) continue;
                const float* read = source + row * pool.source_pitch * lanes;
                for (int64_t x = 0; x < row_length; ++x) tallest[x] = larger(tallest[x], read[x]);
            }
            float* target = pool.target + channel * pool.target_plane + y * pool.target_pitch * lanes;
            for (int64_t x = 0; x < pool.target_width * lanes; ++x) target[x] = -kInfinity;
            for (int64_t k = 0; k < pool.kernel[1]; ++k) {
                const int64_t shift = k * pool.dilation[1] - pool.padding[1], step = pool.stride[1];
                int64_t from = 0, to = pool.target_width;
                while (from < to && from * step + shift < 0) ++from;
                while (to > from && (to - 1) * step + shift >= width) --to;
                if (lanes == 1) {
                    for (int64_t x = from; x < to; ++x) target[x] = larger(target[x], tallest[x * step + shift]);
                    continue;
                }
                for (int64_t x = from; x < to; ++x) {
                    const float* read = tallest + (x * step + shift) * lanes;
                    for (int64_t lane = 0; lane < lanes; ++lane)
                        target[x * lanes + lane] = larger(target[x * lanes + lane], read[lane]);
                }
            }
        }
    }
}

// The mean over one window, in double precision.
static float mean(const Pool& pool, const float* first, int64_t height, int64_t width) {
    double sum = 0.0;
    for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column)
            sum += first[(row * pool.source_pitch + column) * pool.lanes];
    return static_cast<float>(sum / static_cast<double>(height * width));
}

static void average(const Pool& pool, int64_t first, int64_t last) {
    const int64_t lanes = pool.lanes;
    for (int64_t channel = first; channel < last; ++channel) {
        const float* source = pool.source + channel * pool.source_plane;
        float* target = pool.target + channel * pool.target_plane;
        for (int64_t y = 0; y < pool.target_height; ++y) {
            const int64_t top = y * pool.source_height / pool.target_height;
            const int64_t bottom = ((y + 1) * pool.source_height + pool.target_height - 1) / pool.target_height;
            for (int64_t x = 0; x < pool.target_width; ++x) {
                const int64_t left = x * pool.source_width / pool.target_width;
                const int64_t right = ((x + 1) * pool.source_width + pool.target_width - 1) / pool.target_width;
                const float* corner = source + (top * pool.source_pitch + left) * lanes;
                for (int64_t lane = 0; lane < lanes; ++lane)
                    target[(y * pool.target_pitch + x) * lanes + lane] =
                        mean(pool, corner + lane, bottom - top, right - left);
            }
        }
    }
}
