/*
 * All leaf and node hashes of a buffer in one call, without the interpreter's lock.
 *
 * leafhash.py checks every kernel against hashlib before it uses one, and does without this
 * module where it was not built.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_sha256.h"

enum { LEAF = 1024, NODE = 2 * HASH, GROUP_LEVEL = 6, GROUP = 1 << GROUP_LEVEL };

/* Below this a call is quicker than getting the interpreter's lock back could be. */
enum { HOLD_LOCK_BELOW = 16 * LEAF };

static shape leaf_shape, node_shape;

static size_t leaf_count(size_t length)
{
    return length / LEAF + (length % LEAF != 0);
}

static void hash_leaves(const kernel *k, const uint8_t *data, size_t length, uint8_t *out)
{
    const size_t whole = length / LEAF, rest = length % LEAF;
    if (whole)
        k->run(&leaf_shape, data, whole, out);
    if (rest) {
        uint8_t last[LEAF] = {0};
        memcpy(last, data + LEAF * whole, rest);
        k->run(&leaf_shape, last, 1, out + HASH * whole);
    }
}

/* Replace `count` hashes by the level above, in place; an odd one is carried up. */
static size_t hash_level(const kernel *k, uint8_t *hashes, size_t count)
{
    const size_t pairs = count / 2;
    k->run(&node_shape, hashes, pairs, hashes);
    if (count % 2)
        memmove(hashes + HASH * pairs, hashes + HASH * (count - 1), HASH);
    return pairs + count % 2;
}

static void hash_tree(const kernel *k, uint8_t *hashes, size_t count, uint8_t *root,
                      uint8_t *groups)
{
    for (int level = 0; level < GROUP_LEVEL && count > 1; level++)
        count = hash_level(k, hashes, count);
    memcpy(groups, hashes, HASH * count);
    while (count > 1)
        count = hash_level(k, hashes, count);
    memcpy(root, hashes, HASH);
}

/* Take (kernel index, contiguous bytes-like object); NULL with an exception set if it is wrong. */
static const kernel *take_arguments(PyObject *const *args, Py_ssize_t count, Py_buffer *view)
{
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "a kernel's index and data needed, got %zd values", count);
        return NULL;
    }
    const size_t index = PyLong_AsSize_t(args[0]);
    if (index == (size_t)-1 && PyErr_Occurred())
        return NULL;
    if (index >= kernel_count) {
        PyErr_Format(PyExc_IndexError, "no kernel %zu, there are %zu", index, kernel_count);
        return NULL;
    }
    if (PyObject_GetBuffer(args[1], view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "0 bytes have no leaf, at least 1 byte needed");
        return NULL;
    }
    return &kernels[index];
}

static uint8_t *bytes_of(PyObject *bytes)
{
    return (uint8_t *)PyBytes_AS_STRING(bytes);
}

static PyObject *py_leaves(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    const kernel *k = take_arguments(args, count, &view);
    if (!k)
        return NULL;
    PyObject *out = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(HASH * leaf_count(view.len)));
    if (out) {
        PyThreadState *state = view.len < HOLD_LOCK_BELOW ? NULL : PyEval_SaveThread();
        hash_leaves(k, view.buf, view.len, bytes_of(out));
        if (state)
            PyEval_RestoreThread(state);
    }
    PyBuffer_Release(&view);
    return out;
}

static PyObject *py_subtree(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer view;
    const kernel *k = take_arguments(args, count, &view);
    if (!k)
        return NULL;
    const size_t leaves = leaf_count(view.len);
    PyObject *result = NULL;
    PyObject *root = PyBytes_FromStringAndSize(NULL, HASH);
    PyObject *groups = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(HASH * (leaves / GROUP + (leaves % GROUP != 0))));
    uint8_t *hashes = PyMem_RawMalloc(HASH * leaves);
    if (!hashes)
        PyErr_NoMemory();
    if (root && groups && hashes) {
        PyThreadState *state = view.len < HOLD_LOCK_BELOW ? NULL : PyEval_SaveThread();
        hash_leaves(k, view.buf, view.len, hashes);
        hash_tree(k, hashes, leaves, bytes_of(root), bytes_of(groups));
        if (state)
            PyEval_RestoreThread(state);
        result = PyTuple_Pack(2, root, groups);
    }
    PyMem_RawFree(hashes);
    Py_XDECREF(root);
    Py_XDECREF(groups);
    PyBuffer_Release(&view);
    return result;
}

static int fill_module(PyObject *module)
{
    if (!leaf_shape.blocks) {
        make_shape(&leaf_shape, LEAF / BLOCK);
        make_shape(&node_shape, NODE / BLOCK);
        find_kernels();
    }
    PyObject *names = PyTuple_New((Py_ssize_t)kernel_count);
    if (!names)
        return -1;
    for (size_t i = 0; i < kernel_count; i++) {
        PyObject *name = PyUnicode_FromString(kernels[i].name);
        if (!name) {
            Py_DECREF(names);
            return -1;
        }
        PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
    const int failed = PyModule_AddObjectRef(module, "KERNELS", names);
    Py_DECREF(names);
    return failed;
}

static PyMethodDef methods[] = {
    {"leaves", (PyCFunction)(void (*)(void))py_leaves, METH_FASTCALL,
     "leaves(kernel, data) -> the leaf hashes, one after the other."},
    {"subtree", (PyCFunction)(void (*)(void))py_subtree, METH_FASTCALL,
     "subtree(kernel, data) -> (root, hashes over 64-leaf groups)."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_leafhash",
    .m_doc = "SHA-256 shard trees by the kernels this processor can run; KERNELS names them.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__leafhash(void)
{
    return PyModuleDef_Init(&definition);
}
