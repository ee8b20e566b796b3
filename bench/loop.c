// The peer of the numba loop: the post's training run at degree 4 as one would write it in C, for
// cc -O3 -march=native -ffast-math -shared -fPIC [-DREAL=float] loop.c
#ifndef REAL
#define REAL double
#endif
typedef REAL real;

void train(const real *restrict x, const real *restrict y, long n, long steps, real learn_rate, real *restrict w,
           real *restrict trace) {
    real w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4];
    const real rate = learn_rate * 2 / n, inverse_n = (real)1 / n;
    for (long step = 0; step < steps; step++) {
        real squares = 0, g0 = 0, g1 = 0, g2 = 0, g3 = 0, g4 = 0;
        for (long i = 0; i < n; i++) {
            real x1 = x[i], x2 = x1 * x1, x3 = x2 * x1, x4 = x2 * x2;
            real r = y[i] - (w0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4);
            squares += r * r;
            g0 += r;
            g1 += r * x1;
            g2 += r * x2;
            g3 += r * x3;
            g4 += r * x4;
        }
        trace[step] = squares * inverse_n;
        w0 += rate * g0;
        w1 += rate * g1;
        w2 += rate * g2;
        w3 += rate * g3;
        w4 += rate * g4;
    }
    w[0] = w0, w[1] = w1, w[2] = w2, w[3] = w3, w[4] = w4;
}
