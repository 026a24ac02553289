"""The algorithms of the arm's model, in C; `sim.model_library` puts the numbers before them.

All matrices are column-major; a Jacobian's rows are linear, then angular. The 30 functions are those that libfranka looks up.
"""

SOURCE = r"""
typedef struct { double p[3], r[9]; } Frame;  /* r column-major: its columns are the frame's axes in the base */

static void cross(const double *a, const double *b, double *o) {
  o[0] = a[1] * b[2] - a[2] * b[1]; o[1] = a[2] * b[0] - a[0] * b[2]; o[2] = a[0] * b[1] - a[1] * b[0];
}
static void turn(const double *r, const double *v, double *o) {
  for (int i = 0; i < 3; i++) o[i] = r[i] * v[0] + r[3 + i] * v[1] + r[6 + i] * v[2];
}
static void turn_back(const double *r, const double *v, double *o) {
  for (int i = 0; i < 3; i++) o[i] = r[3 * i] * v[0] + r[3 * i + 1] * v[1] + r[3 * i + 2] * v[2];
}
static Frame place(const Frame *base, const double *p, const double *r) {
  Frame out;
  turn(base->r, p, out.p);
  for (int i = 0; i < 3; i++) { out.p[i] += base->p[i]; turn(base->r, r + 3 * i, out.r + 3 * i); }
  return out;
}
/* f[0] is the base, f[1..7] the links, f[8] the flange. */
static void frames(const double *q, Frame *f) {
  Frame base = {{0, 0, 0}, {1, 0, 0, 0, 1, 0, 0, 0, 1}};
  f[0] = base;
  for (int i = 0; i < 7; i++) {
    double ct = cos(q[i]), st = sin(q[i]), ca = COS_ALPHA[i], sa = SIN_ALPHA[i];
    double r[9] = {ct, st * ca, st * sa, -st, ct * ca, ct * sa, 0, -sa, ca};
    double p[3] = {A[i], -sa * D[i], ca * D[i]};
    f[i + 1] = place(&f[i], p, r);
  }
  double p[3] = {0, 0, FLANGE};
  f[8] = place(&f[7], p, base.r);
}
static Frame end_effector(const Frame *flange, const double *t) {
  double r[9] = {t[0], t[1], t[2], t[4], t[5], t[6], t[8], t[9], t[10]};
  return place(flange, t + 12, r);
}
static void put_pose(const Frame *f, double *o) {
  for (int c = 0; c < 3; c++) { for (int i = 0; i < 3; i++) o[4 * c + i] = f->r[3 * c + i]; o[4 * c + 3] = 0; }
  for (int i = 0; i < 3; i++) o[12 + i] = f->p[i];
  o[15] = 1;
}
/* The Jacobian of a point that moves with the first n joints. */
static void point_jacobian(const Frame *f, int n, const double *point, double *o) {
  for (int i = 0; i < 42; i++) o[i] = 0;
  for (int j = 0; j < n; j++) {
    const double *axis = f[j + 1].r + 6;
    double arm[3];
    for (int i = 0; i < 3; i++) { arm[i] = point[i] - f[j + 1].p[i]; o[6 * j + 3 + i] = axis[i]; }
    cross(axis, arm, o + 6 * j);
  }
}
static void body_axes(const Frame *f, double *o) {
  for (int j = 0; j < 14; j++) {
    double v[3] = {o[3 * j], o[3 * j + 1], o[3 * j + 2]};
    turn_back(f->r, v, o + 3 * j);
  }
}
static void pose_of(int n, const double *q, double *o) { Frame f[9]; frames(q, f); put_pose(&f[n], o); }
static void jacobian_of(int n, const double *q, double *o, int in_body) {
  Frame f[9];
  frames(q, f);
  point_jacobian(f, n < 7 ? n : 7, f[n].p, o);
  if (in_body) body_axes(&f[n], o);
}

/* The eight bodies that move: links 1..7, then the load on the flange. I is about the centre of mass. */
typedef struct { double m, c[3], w[9]; int link; } Body;
static void bodies(const Frame *f, const double *load_i, double load_m, const double *load_c, Body *b) {
  for (int k = 0; k < 8; k++) {
    const Frame *at = k < 7 ? &f[k + 1] : &f[8];
    const double *inertia = k < 7 ? INERTIA[k] : load_i;
    double half[9];
    b[k].link = k < 7 ? k + 1 : 7;
    b[k].m = k < 7 ? MASS[k] : load_m;
    turn(at->r, k < 7 ? COM[k] : load_c, b[k].c);
    for (int i = 0; i < 3; i++) { b[k].c[i] += at->p[i]; turn(at->r, inertia + 3 * i, half + 3 * i); }
    for (int i = 0; i < 3; i++)  /* R I R^T */
      for (int j = 0; j < 3; j++)
        b[k].w[3 * j + i] = half[i] * at->r[j] + half[3 + i] * at->r[3 + j] + half[6 + i] * at->r[6 + j];
  }
}
void M_NE(const double *q, const double *I, double m, const double *c, double *o) {
  Frame f[9];
  Body b[8];
  frames(q, f);
  bodies(f, I, m, c, b);
  for (int i = 0; i < 49; i++) o[i] = i % 8 ? 0 : ROTOR;
  for (int k = 0; k < 8; k++) {
    double jac[42], wj[3];
    point_jacobian(f, b[k].link, b[k].c, jac);
    for (int s = 0; s < 7; s++) {
      turn(b[k].w, jac + 6 * s + 3, wj);
      for (int r = 0; r < 7; r++)
        for (int i = 0; i < 3; i++)
          o[7 * s + r] += b[k].m * jac[6 * r + i] * jac[6 * s + i] + jac[6 * r + 3 + i] * wj[i];
    }
  }
}
void g_NE(const double *q, const double *g, double m, const double *c, double *o) {
  static const double none[9] = {0};
  Frame f[9];
  Body b[8];
  frames(q, f);
  bodies(f, none, m, c, b);
  for (int j = 0; j < 7; j++) o[j] = 0;
  for (int k = 0; k < 8; k++) {
    double jac[42];
    point_jacobian(f, b[k].link, b[k].c, jac);
    for (int j = 0; j < 7; j++)
      for (int i = 0; i < 3; i++) o[j] -= b[k].m * g[i] * jac[6 * j + i];
  }
}
/* Inertial forces at zero joint acceleration: each link's motion outwards, then each body's force through its Jacobian. */
void c_NE(const double *q, const double *dq, const double *I, double m, const double *c, double *o) {
  Frame f[9];
  Body b[8];
  double w[8][3] = {{0}}, dw[8][3] = {{0}}, a[8][3] = {{0}};  /* of links 0..7: angular, its rate, linear at the origin */
  frames(q, f);
  bodies(f, I, m, c, b);
  for (int n = 1; n <= 7; n++) {
    const double *axis = f[n].r + 6;
    double arm[3], t[3], u[3];
    for (int i = 0; i < 3; i++) arm[i] = f[n].p[i] - f[n - 1].p[i];
    cross(dw[n - 1], arm, t);
    cross(w[n - 1], arm, u);
    for (int i = 0; i < 3; i++) a[n][i] = a[n - 1][i] + t[i];
    cross(w[n - 1], u, t);
    cross(w[n - 1], axis, u);
    for (int i = 0; i < 3; i++) {
      a[n][i] += t[i];
      w[n][i] = w[n - 1][i] + dq[n - 1] * axis[i];
      dw[n][i] = dw[n - 1][i] + dq[n - 1] * u[i];
    }
  }
  for (int j = 0; j < 7; j++) o[j] = 0;
  for (int k = 0; k < 8; k++) {
    int n = b[k].link;
    double arm[3], t[3], u[3], force[3], torque[3], spin[3], jac[42];
    for (int i = 0; i < 3; i++) arm[i] = b[k].c[i] - f[n].p[i];
    cross(dw[n], arm, t);
    cross(w[n], arm, u);
    for (int i = 0; i < 3; i++) force[i] = a[n][i] + t[i];
    cross(w[n], u, t);
    for (int i = 0; i < 3; i++) force[i] = b[k].m * (force[i] + t[i]);
    turn(b[k].w, dw[n], torque);
    turn(b[k].w, w[n], spin);
    cross(w[n], spin, t);
    for (int i = 0; i < 3; i++) torque[i] += t[i];
    point_jacobian(f, n, b[k].c, jac);
    for (int j = 0; j < 7; j++)
      for (int i = 0; i < 3; i++) o[j] += jac[6 * j + i] * force[i] + jac[6 * j + 3 + i] * torque[i];
  }
}

void O_T_J9(const double *q, const double *t, double *o) {
  Frame f[9];
  frames(q, f);
  Frame e = end_effector(&f[8], t);
  put_pose(&e, o);
}
static void jacobian_9(const double *q, const double *t, double *o, int in_body) {
  Frame f[9];
  frames(q, f);
  Frame e = end_effector(&f[8], t);
  point_jacobian(f, 7, e.p, o);
  if (in_body) body_axes(&e, o);
}
void O_J_J9(const double *q, const double *t, double *o) { jacobian_9(q, t, o, 0); }
void Ji_J_J9(const double *q, const double *t, double *o) { jacobian_9(q, t, o, 1); }

static const double REST[7] = {0};
void O_T_J1(const double *q, double *o) { pose_of(1, q, o); }
void O_J_J1(double *o) { jacobian_of(1, REST, o, 0); }  /* constant: the axis of joint 1 passes through its frame */
void Ji_J_J1(double *o) { jacobian_of(1, REST, o, 1); }
#define FRAME(n) \
  void O_T_J##n(const double *q, double *o) { pose_of(n, q, o); } \
  void O_J_J##n(const double *q, double *o) { jacobian_of(n, q, o, 0); } \
  void Ji_J_J##n(const double *q, double *o) { jacobian_of(n, q, o, 1); }
FRAME(2) FRAME(3) FRAME(4) FRAME(5) FRAME(6) FRAME(7) FRAME(8)
"""
