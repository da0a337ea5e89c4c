/*
 * The keys behind many signatures in one call, without the interpreter's lock.
 *
 * The arithmetic is libsecp256k1's, as it lies inside coincurve. recovery.py checks what comes
 * out against coincurve before it uses this module, and does without it where it was not built.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>

enum { DIGEST = 32, COMPACT = 64, SIGNATURE = COMPACT + 1, KEY = 64 };
enum { NO_PURPOSE = 1, UNCOMPRESSED = 2 }; /* libsecp256k1's flags */

typedef struct context context;
typedef struct { unsigned char opaque[65]; } recoverable;
typedef struct { unsigned char opaque[64]; } point;

static context *(*create_context)(unsigned int flags);
static int (*parse)(const context *, recoverable *, const unsigned char *compact, int parity);
static int (*recover)(const context *, point *, const recoverable *, const unsigned char *digest);
static int (*serialize)(const context *, unsigned char *, size_t *, const point *, unsigned int);
static context *shared; /* never written to after it was made */

static void *find(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        PyErr_Format(PyExc_ImportError, "no %s in the library", name);
    return found;
}

static PyObject *py_load(PyObject *module, PyObject *path)
{
    const char *name = PyUnicode_AsUTF8(path);
    if (!name)
        return NULL;
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return PyErr_Format(PyExc_ImportError, "%s", dlerror());
    if (!(create_context = find(library, "secp256k1_context_create")) ||
        !(parse = find(library, "secp256k1_ecdsa_recoverable_signature_parse_compact")) ||
        !(recover = find(library, "secp256k1_ecdsa_recover")) ||
        !(serialize = find(library, "secp256k1_ec_pubkey_serialize")))
        return NULL;
    shared = create_context(NO_PURPOSE);
    if (!shared)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* Write the key without its first byte, which says only that it is not compressed. */
static void recover_one(const unsigned char *digest, const unsigned char *signature,
                        unsigned char *out)
{
    recoverable parsed;
    point key;
    unsigned char whole[1 + KEY];
    size_t size = sizeof whole;
    if (parse(shared, &parsed, signature, signature[COMPACT]) &&
        recover(shared, &key, &parsed, digest) &&
        serialize(shared, whole, &size, &key, UNCOMPRESSED))
        memcpy(out, whole + 1, KEY);
    else
        memset(out, 0, KEY);
}

static int well_formed(const Py_buffer *digests, const Py_buffer *signatures)
{
    if (digests->len % DIGEST || signatures->len % SIGNATURE ||
        digests->len / DIGEST != signatures->len / SIGNATURE) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of digests, %zd of signatures", digests->len,
                     signatures->len);
        return 0;
    }
    const unsigned char *all = signatures->buf;
    for (Py_ssize_t at = COMPACT; at < signatures->len; at += SIGNATURE)
        if (all[at] > 3) {
            PyErr_Format(PyExc_ValueError, "a parity of %d, 0 to 3 needed", all[at]);
            return 0;
        }
    return 1;
}

static PyObject *py_public_keys(PyObject *module, PyObject *args)
{
    Py_buffer digests, signatures;
    PyObject *out = NULL;
    if (!PyArg_ParseTuple(args, "y*y*", &digests, &signatures))
        return NULL;
    if (!shared)
        PyErr_SetString(PyExc_RuntimeError, "no library is loaded");
    else if (well_formed(&digests, &signatures)) {
        const Py_ssize_t count = digests.len / DIGEST;
        out = PyBytes_FromStringAndSize(NULL, KEY * count);
        if (out) {
            unsigned char *keys = (unsigned char *)PyBytes_AS_STRING(out);
            const unsigned char *digest = digests.buf, *signature = signatures.buf;
            Py_BEGIN_ALLOW_THREADS
            for (Py_ssize_t at = 0; at < count; at++)
                recover_one(digest + DIGEST * at, signature + SIGNATURE * at, keys + KEY * at);
            Py_END_ALLOW_THREADS
        }
    }
    PyBuffer_Release(&digests);
    PyBuffer_Release(&signatures);
    return out;
}

static PyMethodDef functions[] = {
    {"load", py_load, METH_O, NULL},
    {"public_keys", py_public_keys, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_recovery", .m_size = 0, .m_methods = functions,
};

PyMODINIT_FUNC PyInit__recovery(void)
{
    return PyModuleDef_Init(&definition);
}
