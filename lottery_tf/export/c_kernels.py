"""The C functions that an export to C may call. Only those that it calls are written.

`{…}` stand for the types of a call: the file has a function once for each combination.
"""

FUNCTIONS = {
    # `counts` weights of each output, whose inputs are `gaps` apart. Four sums hide the time that
    # an addition takes.
    "sparse": """\
static void {name}(const float *x, int outputs, const {counts} *counts, const {gaps} *gaps,
    const float *weights, const float *bias, float *y)
{{
    int o;
    for (o = 0; o < outputs; o++) {{
        const float *p = x;
        float a = bias[o], b = 0, c = 0, d = 0;
        unsigned long k = 0;
        const unsigned long count = counts[o];
        for (; k + 4 <= count; k += 4) {{
            a += *(p += gaps[k]) * weights[k];
            b += *(p += gaps[k + 1]) * weights[k + 1];
            c += *(p += gaps[k + 2]) * weights[k + 2];
            d += *(p += gaps[k + 3]) * weights[k + 3];
        }}
        for (; k < count; k++)
            a += *(p += gaps[k]) * weights[k];
        y[o] = (a + b) + (c + d);
        gaps += count;
        weights += count;
    }}
}}
""",
    # Sixteen sums, which compilers put into registers.
    "dense": """\
static void {name}(const float *x, int inputs, int outputs, const float *weights,
    const float *bias, float *y)
{{
    int i, j, o;
    for (o = 0; o < outputs; o++, weights += inputs) {{
        float sums[16] = {{0}}, sum = bias[o];
        for (i = 0; i + 16 <= inputs; i += 16)
            for (j = 0; j < 16; j++)
                sums[j] += x[i + j] * weights[i + j];
        for (; i < inputs; i++)
            sum += x[i] * weights[i];
        for (j = 0; j < 16; j++)
            sum += sums[j];
        y[o] = sum;
    }}
}}
""",
    # `counts` weights of each output, whose pixels are `gaps` apart: each adds a row of pixels,
    # four weights at a time, so that the sums are seldom read and written.
    "convolve": """\
static void {name}(const float *x, int outputs, const {counts} *counts, const {gaps} *gaps,
    int shared, const float *weights, const float *bias, float least, int pixels, int plane,
    float *y)
{{
    int i, j, o;
    for (i = 0; i < pixels; i += 512) {{
        const int n = pixels - i < 512 ? pixels - i : 512;
        const {gaps} *gap = gaps;
        const float *w = weights;
        for (o = 0; o < outputs; o++) {{
            const unsigned long count = counts[o];
            const float *p = x + i;
            float *restrict sums = y + (long)o * plane + i;
            unsigned long k = 0;
            for (j = 0; j < n; j++)
                sums[j] = bias[o];
            for (; k + 4 <= count; k += 4) {{
                const float *a = p + gap[k], *b = a + gap[k + 1], *c = b + gap[k + 2];
                const float s = w[k], t = w[k + 1], u = w[k + 2], v = w[k + 3];
                p = c + gap[k + 3];
                for (j = 0; j < n; j++)
                    sums[j] += s * a[j] + t * b[j] + u * c[j] + v * p[j];
            }}
            for (; k < count; k++) {{
                const float value = w[k];
                p += gap[k];
                for (j = 0; j < n; j++)
                    sums[j] += value * p[j];
            }}
            for (j = 0; j < n; j++)
                sums[j] = sums[j] > least ? sums[j] : least;
            w += count;
            if (!shared)
                gap += count;
        }}
    }}
}}
""",
    # As "sparse", "dense" and "convolve", of bytes; integers are summed in any order. The
    # convolution adds 32 pixels at once, also behind the last one: gcc -O3 makes a loop of any
    # length slow (unroll-and-jam).
    "sparse_int8": """\
static void {name}(const uint8_t *x, int outputs, const {counts} *counts, const {gaps} *gaps,
    const int8_t *weights, const float *scale, const float *bias, float *y)
{{
    int o;
    for (o = 0; o < outputs; o++) {{
        const uint8_t *p = x;
        int32_t a = 0, b = 0, c = 0, d = 0;
        unsigned long k = 0;
        const unsigned long count = counts[o];
        for (; k + 4 <= count; k += 4) {{
            a += *(p += gaps[k]) * weights[k];
            b += *(p += gaps[k + 1]) * weights[k + 1];
            c += *(p += gaps[k + 2]) * weights[k + 2];
            d += *(p += gaps[k + 3]) * weights[k + 3];
        }}
        for (; k < count; k++)
            a += *(p += gaps[k]) * weights[k];
        y[o] = (float)(a + b + c + d) * scale[o] + bias[o];
        gaps += count;
        weights += count;
    }}
}}
""",
    "dense_int8": """\
static void {name}(const uint8_t *x, int inputs, int outputs, const int8_t *weights,
    const float *scale, const float *bias, float *y)
{{
    int i, o;
    for (o = 0; o < outputs; o++, weights += inputs) {{
        int32_t sum = 0;
        for (i = 0; i < inputs; i++)
            sum += x[i] * weights[i];
        y[o] = (float)sum * scale[o] + bias[o];
    }}
}}
""",
    "convolve_int8": """\
static void {name}(const uint8_t *x, int outputs, const {counts} *counts, const {gaps} *gaps,
    int shared, const int8_t *weights, const float *scale, const float *bias, float least,
    int pixels, int plane, float *y)
{{
    int i, j, l, o;
    int32_t sums[256];
    for (i = 0; i < pixels; i += 256) {{
        const int n = pixels - i < 256 ? pixels - i : 256;
        const {gaps} *gap = gaps;
        const int8_t *w = weights;
        for (o = 0; o < outputs; o++) {{
            const unsigned long count = counts[o];
            const uint8_t *p = x + i;
            float *out = y + (long)o * plane + i;
            unsigned long k = 0;
            for (l = 0; l < 256; l++)
                sums[l] = 0;
            for (; k + 4 <= count; k += 4) {{
                const uint8_t *a = p + gap[k], *b = a + gap[k + 1], *c = b + gap[k + 2];
                const int s = w[k], t = w[k + 1], u = w[k + 2], v = w[k + 3];
                p = c + gap[k + 3];
                for (j = 0; j < n; j += 32)
                    for (l = j; l < j + 32; l++)
                        sums[l] += s * a[l] + t * b[l] + u * c[l] + v * p[l];
            }}
            for (; k < count; k++) {{
                const int s = w[k];
                p += gap[k];
                for (j = 0; j < n; j += 32)
                    for (l = j; l < j + 32; l++)
                        sums[l] += s * p[l];
            }}
            for (j = 0; j < n; j++) {{
                const float value = (float)sums[j] * scale[o] + bias[o];
                out[j] = value > least ? value : least;
            }}
            w += count;
            if (!shared)
                gap += count;
        }}
    }}
}}
""",
    # The comparisons make a code of every float, also of those around an image.
    "quantize": """\
static void {name}(const float *x, int count, float low, float per_step, uint8_t *y)
{{
    int i;
    for (i = 0; i < count; i++) {{
        float code = (x[i] - low) * per_step;
        code = code > 0 ? code : 0;
        code = code < 255 ? code : 255;
        y[i] = (uint8_t)(code + 0.5f);
    }}
}}
""",
    # Copies a box of channels, rows and columns. A stride of the convolution that reads it parts
    # the rows and columns into planes, so that this one reads pixels side by side.
    "copy": """\
static void {name}(const {x} *x, const struct box *b, const float *scale, const float *offset,
    float *y)
{{
    int c, i, j, phase;
    (void)scale, (void)offset;
    for (c = 0; c < b->channels; c++) {{
        {before}
        for (i = 0; i < b->rows; i++) {{
            const int row = b->top + i;
            const {x} *in = x + (long)c * b->from_channel + (long)i * b->from_row;
            float *out = y + (long)c * b->to_channel + (row / b->down) * b->to_row
                + (long)(row % b->down) * b->across * b->to_plane;
            for (phase = 0; phase < b->across; phase++) {{
                const int first = (phase + b->across - b->left % b->across) % b->across;
                float *p = out + (long)phase * b->to_plane + (b->left + first) / b->across;
                for (j = first; j < b->columns; j += b->across)
                    *p++ = {value};
            }}
        }}
    }}
}}
""",
    # Places begin at 1; that of a zero is 0.
    "gather": """\
static void {name}(const {x} *x, const {places} *places, int count, float *y)
{{
    int i;
    for (i = 0; i < count; i++)
        y[i] = places[i] ? (float)x[places[i] - 1] : 0;
}}
""",
    "zero": """\
static void {name}(float *y, int count)
{{
    int i;
    for (i = 0; i < count; i++)
        y[i] = 0;
}}
""",
    "combine": """\
static void {name}(const float *a, const float *b, int count, float *y)
{{
    int i;
    for (i = 0; i < count; i++)
        y[i] = {value};
}}
""",
    # Borders that the padding "same" adds are no part of a window.
    "pool": """\
static void {name}(const float *x, const struct windows *w, float *y)
{{
    int c, i, j, k, l;
    for (c = 0; c < w->channels; c++)
        for (i = 0; i < w->out_rows; i++, y += w->out_columns) {{
            int seen_rows = 0;
            for (j = 0; j < w->out_columns; j++)
                y[j] = {start};
            for (k = 0; k < w->height; k++) {{
                const int row = i * w->down - w->top + k;
                if (row < 0 || row >= w->rows)
                    continue;
                seen_rows++;
                for (l = 0; l < w->width; l++) {{
                    const float *in = x + (long)c * w->channel + (long)row * w->row;
                    int first = 0, end = w->out_columns;
                    while (first < end && first * w->across - w->left + l < 0)
                        first++;
                    while (end > first && (end - 1) * w->across - w->left + l >= w->columns)
                        end--;
                    for (j = first; j < end; j++) {{
                        const float value = in[j * w->across - w->left + l];
                        y[j] = {value};
                    }}
                }}
            }}
            {finish}
        }}
}}
""",
    "reduce": """\
static void {name}(const float *x, int channels, int rows, int columns, int channel, int row,
    float *y)
{{
    int c, i, j;
    for (c = 0; c < channels; c++) {{
        float sum = {start};
        for (i = 0; i < rows; i++)
            for (j = 0; j < columns; j++) {{
                const float value = x[(long)c * channel + (long)i * row + j];
                sum = {value};
            }}
        y[c] = {finish};
    }}
}}
""",
    "softmax": """\
static void {name}(float *x, int channels, int channel, int count)
{{
    int c, i;
    for (i = 0; i < count; i++, x++) {{
        float largest = x[0], sum = 0;
        for (c = 1; c < channels; c++)
            if (x[(long)c * channel] > largest)
                largest = x[(long)c * channel];
        for (c = 0; c < channels; c++)
            sum += x[(long)c * channel] = expf(x[(long)c * channel] - largest);
        for (c = 0; c < channels; c++)
            x[(long)c * channel] /= sum;
    }}
}}
""",
    "activate": """\
static void {name}(float *values, int count)
{{
    int i;
    for (i = 0; i < count; i++) {{
        const float x = values[i];
        values[i] = {value};
    }}
}}
""",
}
STRUCTS = {
    "copy": """\
struct box {
    int channels, rows, columns, from_channel, from_row, from_column;
    int top, left, down, across, to_channel, to_plane, to_row;
};
""",
    "pool": """\
struct windows {
    int channels, rows, columns, channel, row, height, width, down, across, top, left;
    int out_rows, out_columns;
};
""",
}
POOLS = {  # {kind: the placeholders of "pool"}
    "max": {
        "start": "-INFINITY",
        "value": "value > y[j] ? value : y[j]",
        "finish": "(void)seen_rows;",
    },
    "mean": {
        "start": "0",
        "value": "y[j] + value",
        "finish": """for (j = 0; j < w->out_columns; j++) {
                int first = j * w->across - w->left, end = first + w->width;
                first = first < 0 ? 0 : first;
                end = end > w->columns ? w->columns : end;
                y[j] /= (float)(seen_rows * (end - first));
            }""",
    },
}
REDUCTIONS = {
    "max": {"start": "-INFINITY", "value": "value > sum ? value : sum", "finish": "sum"},
    "mean": {"start": "0", "value": "sum + value", "finish": "sum / (float)(rows * columns)"},
}
COMBINATIONS = {"Add": "a[i] + b[i]", "Multiply": "a[i] * b[i]", "Subtract": "a[i] - b[i]"}
COMBINATIONS |= {"Maximum": "a[i] > b[i] ? a[i] : b[i]", "Minimum": "a[i] < b[i] ? a[i] : b[i]"}
# {name in keras.activations: expression of a float x}; `{slope}` and `{limit}` are of layers
ACTIVATIONS = {
    "relu": "x > 0 ? x : 0",
    "relu6": "x > 0 ? (x < 6 ? x : 6) : 0",
    "leaky_relu": "x > 0 ? x : {slope} * x",
    "elu": "x > 0 ? x : {slope} * (expf(x) - 1)",
    "selu": "x > 0 ? 1.05070098f * x : 1.75809934f * (expf(x) - 1)",
    "sigmoid": "1 / (1 + expf(-x))",
    "hard_sigmoid": "x <= -3 ? 0 : x >= 3 ? 1 : x / 6 + 0.5f",
    "tanh": "tanhf(x)",
    "exponential": "expf(x)",
    "softplus": "(x > 0 ? x : 0) + log1pf(expf(x > 0 ? -x : x))",
    "softsign": "x / (1 + fabsf(x))",
    "gelu": "0.5f * x * (1 + erff(0.707106781f * x))",
    "silu": "x / (1 + expf(-x))",
    "hard_silu": "x <= -3 ? 0 : x >= 3 ? x : x * (x / 6 + 0.5f)",
    "mish": "x * tanhf((x > 0 ? x : 0) + log1pf(expf(x > 0 ? -x : x)))",
    "limited": "x > {limit} ? {limit} : x > 0 ? x : {slope} * x",
}
