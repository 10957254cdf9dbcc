/* A stand-in for libnvidia-ml.so.1, for machines without a GPU: the part of NVML's ABI that the
 * agent (and nvidia-ml-py around it) uses. Every value comes from a text file, named by
 * HETEROSCALE_NVML_STUB_STATE and read again when it changes; `state.py` writes it. One GPU a line,
 * as key=value (see `KEYS`); `parent=N` makes a line a MIG device of the Nth GPU. `_` in a name is
 * a space; `unsupported` and `pids` are comma-separated. rc is the nvmlReturn_t that every call about
 * the GPU gives (0 success, 15 lost, 999 unknown).
 *
 * As in the real one, the list of GPUs is made by nvmlInit and stays until the next first one: a line
 * that goes is a GPU that is lost, and one that comes is not there yet. MIG devices come and go live.
 * Compiled with -DWITHOUT_<function>, that function is missing, as from an older driver.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
};
enum { MAX_ROWS = 128, MAX_PIDS = 64, XID_EVENT = 8, WAIT_STEP_US = 100000 };
enum { SM_UTIL = 2, TENSOR_UTIL = 5, DRAM_UTIL = 10, PCIE_TX = 20, PCIE_RX = 21, LINK_RX = 60, LINK_TX = 61 };
enum { FIELD_LINK_TX = 138, FIELD_LINK_RX = 139 };
enum { P2P_NVLINK = 2, P2P_OK = 0, P2P_NOT_SUPPORTED = 5 };
#define NOBODY (~0u)

typedef int Return;
typedef struct device { char uuid[96]; } *Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct { unsigned pid; unsigned long long time; unsigned sm, memory, encoder, decoder; } ProcessSample;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;
typedef struct {
    unsigned field, scope;
    long long time, latency;
    int type;
    Return rc;
    unsigned long long value;
} Field;
typedef struct {
    unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} Attributes;
typedef struct { Device device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;

typedef struct {
    char uuid[96], name[96], unsupported[256], pid_list[1024];
    unsigned long long util, mem_util, used_mib, total_mib, milliwatts, celsius, ecc, ecc_corrected, xid,
        xid_instance, delay_ms, sm_clock, mem_clock, reasons, remap_pending, remap_failed, pcie_rx,
        pcie_tx, link_rx_kib, link_tx_kib, gpu_slices, compute_slices, instance, mig, bus, process_time;
    long long rc, parent, link_group;
    double sm, dram, tensor, gpm_pcie_rx, gpm_pcie_tx, gpm_link_rx, gpm_link_tx;
    unsigned pids[MAX_PIDS], pid_count;
} Row;
typedef struct { int filled; Row row; } Sample;
typedef struct { unsigned id; Return rc; double value; char *short_name, *long_name, *unit; } Metric;
typedef struct { unsigned version, count; Sample *first, *second; Metric metrics[]; } Metrics;
typedef struct { unsigned version, supported; } GpmSupport;
typedef struct { char uuid[MAX_ROWS][96]; unsigned long long seen[MAX_ROWS]; int count; } EventSet;

#define WORD(key, field) {key, offsetof(Row, field), 's', sizeof ((Row *)0)->field}
#define WHOLE(key, field) {key, offsetof(Row, field), 'u', 0}
#define SIGNED(key, field) {key, offsetof(Row, field), 'd', 0}
#define REAL(key, field) {key, offsetof(Row, field), 'f', 0}
static const struct { const char *key; size_t at; char kind; size_t room; } KEYS[] = {
    WORD("uuid", uuid), WORD("name", name), WORD("unsupported", unsupported), WORD("pids", pid_list),
    WHOLE("util", util), WHOLE("mem_util", mem_util), WHOLE("used_mib", used_mib),
    WHOLE("total_mib", total_mib), WHOLE("milliwatts", milliwatts), WHOLE("celsius", celsius),
    WHOLE("ecc", ecc), WHOLE("ecc_corrected", ecc_corrected), WHOLE("xid", xid),
    WHOLE("xid_instance", xid_instance), WHOLE("delay_ms", delay_ms), WHOLE("sm_clock", sm_clock),
    WHOLE("mem_clock", mem_clock), WHOLE("reasons", reasons), WHOLE("remap_pending", remap_pending),
    WHOLE("remap_failed", remap_failed), WHOLE("pcie_rx_kb", pcie_rx), WHOLE("pcie_tx_kb", pcie_tx),
    WHOLE("link_rx_kib", link_rx_kib), WHOLE("link_tx_kib", link_tx_kib),
    WHOLE("gpu_slices", gpu_slices), WHOLE("compute_slices", compute_slices),
    WHOLE("instance", instance), WHOLE("mig", mig), WHOLE("bus", bus),
    WHOLE("process_time", process_time), SIGNED("rc", rc), SIGNED("parent", parent), SIGNED("link_group", link_group),
    REAL("sm", sm), REAL("dram", dram), REAL("tensor", tensor), REAL("gpm_pcie_rx", gpm_pcie_rx),
    REAL("gpm_pcie_tx", gpm_pcie_tx), REAL("gpm_link_rx", gpm_link_rx), REAL("gpm_link_tx", gpm_link_tx),
};

static struct device handles[MAX_ROWS]; /* a handle names a GPU for ever; an entry is never reused */
static int handle_count, listed_count;
static int listed[MAX_ROWS]; /* handles of the GPUs that nvmlInit found, in order */
static int references, live_samples;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Row rows[MAX_ROWS];
static int row_count = -1; /* -1: no state file, as if no driver were loaded */
static struct stat last_stat;

static void parse_pids(Row *row) {
    char *list = row->pid_list, *end;
    for (row->pid_count = 0; *list >= '0' && *list <= '9' && row->pid_count < MAX_PIDS; list = end) {
        row->pids[row->pid_count++] = (unsigned)strtoul(list, &end, 10);
        if (*end == ',') end++;
    }
}

static void set(Row *row, const char *key, const char *value) {
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        char *at = (char *)row + KEYS[i].at;
        if (strcmp(KEYS[i].key, key)) continue;
        if (KEYS[i].kind == 's') snprintf(at, KEYS[i].room, "%s", value);
        if (KEYS[i].kind == 'u') *(unsigned long long *)at = strtoull(value, NULL, 10);
        if (KEYS[i].kind == 'd') *(long long *)at = strtoll(value, NULL, 10);
        if (KEYS[i].kind == 'f') *(double *)at = strtod(value, NULL);
    }
}

static int parse_line(char *line, Row *row) {
    char *place, *word;
    if (line[0] == '#') return 0;
    memset(row, 0, sizeof *row);
    row->parent = row->link_group = -1;
    row->instance = NOBODY;
    row->xid_instance = NOBODY;
    for (word = strtok_r(line, " \n", &place); word; word = strtok_r(NULL, " \n", &place)) {
        char *equals = strchr(word, '=');
        if (!equals) return 0;
        *equals = 0;
        set(row, word, equals + 1);
    }
    for (char *c = row->name; *c; c++) if (*c == '_') *c = ' ';
    parse_pids(row);
    return row->uuid[0] != 0;
}

/* Brings `rows` up to date; returns how many there are. Call with the lock held. */
static int refresh(void) {
    const char *path = getenv("HETEROSCALE_NVML_STUB_STATE");
    struct stat now;
    if (!path || stat(path, &now)) return row_count = -1;
    if (row_count >= 0 && now.st_ino == last_stat.st_ino && now.st_size == last_stat.st_size &&
        now.st_mtim.tv_sec == last_stat.st_mtim.tv_sec && now.st_mtim.tv_nsec == last_stat.st_mtim.tv_nsec)
        return row_count;
    FILE *file = fopen(path, "re");
    if (!file) return row_count = -1;
    char line[4096];
    for (row_count = 0; row_count < MAX_ROWS && fgets(line, sizeof line, file);)
        row_count += parse_line(line, &rows[row_count]);
    fclose(file);
    last_stat = now;
    return row_count;
}

static int handle_of(const char *uuid) {
    for (int i = 0; i < handle_count; i++) if (!strcmp(handles[i].uuid, uuid)) return i;
    if (handle_count == MAX_ROWS) return 0;
    strcpy(handles[handle_count].uuid, uuid);
    return handle_count++;
}

/* What nvmlInit does: lists the GPUs. Returns whether there is a driver. */
static int list_gpus(void) {
    pthread_mutex_lock(&lock);
    int count = refresh();
    if (!references)
        for (int i = listed_count = 0; i < count; i++)
            if (rows[i].parent < 0) listed[listed_count++] = handle_of(rows[i].uuid);
    pthread_mutex_unlock(&lock);
    return count >= 0;
}

/* Copies the row of a GPU; NOT_FOUND when the state has it no more. */
static Return copy_row(const char *uuid, Row *row) {
    Return rc = NOT_FOUND;
    pthread_mutex_lock(&lock);
    int count = refresh();
    if (count < 0) rc = DRIVER_NOT_LOADED;
    for (int i = 0; i < count; i++)
        if (!strcmp(rows[i].uuid, uuid)) rc = OK, *row = rows[i];
    pthread_mutex_unlock(&lock);
    return rc;
}

/* Copies the Nth MIG device of a GPU. */
static Return copy_mig(const char *parent, unsigned wanted, Row *row) {
    Return rc = NOT_FOUND;
    int gpu = -1, place = -1;
    unsigned seen = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0, count = refresh(); i < count; i++) {
        if (rows[i].parent < 0 && ++gpu >= 0 && !strcmp(rows[i].uuid, parent)) place = gpu;
        if (rows[i].parent >= 0 && rows[i].parent == place && seen++ == wanted) rc = OK, *row = rows[i];
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static int lists(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *c = list; (c = strstr(c, word)); c += length)
        if ((c == list || c[-1] == ',') && (c[length] == ',' || !c[length])) return 1;
    return 0;
}

/* What every call about a GPU begins with. `what` is the word that `unsupported` may hold. */
static Return get(Device device, const char *what, Row *row) {
    if (!references) return UNINITIALIZED;
    if (device < handles || device >= handles + handle_count) return INVALID_ARGUMENT;
    Return rc = copy_row(device->uuid, row);
    if (rc) return rc == NOT_FOUND ? GPU_IS_LOST : rc;
    if (row->delay_ms) usleep((unsigned)row->delay_ms * 1000);
    if (row->rc) return (Return)row->rc;
    return lists(row->unsupported, what) ? NOT_SUPPORTED : OK;
}

/* The same for what NVML tells of whole GPUs alone. */
static Return get_whole(Device device, const char *what, Row *row) {
    Return rc = get(device, what, row);
    return !rc && row->parent >= 0 ? NOT_SUPPORTED : rc;
}

static Return text(const char *value, char *buffer, unsigned length) {
    if (strlen(value) >= length) return INSUFFICIENT_SIZE;
    strcpy(buffer, value);
    return OK;
}

static unsigned long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

/* ---- the library ---- */

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!list_gpus()) return DRIVER_NOT_LOADED;
    references++;
    return OK;
}
Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Return nvmlShutdown(void) {
    if (!references) return UNINITIALIZED;
    references--;
    return OK;
}
const char *nvmlErrorString(Return result) {
    switch (result) {
    case OK: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}
Return nvmlSystemGetDriverVersion(char *buffer, unsigned length) { return text("580.65.06", buffer, length); }
Return nvmlSystemGetNVMLVersion(char *buffer, unsigned length) { return text("13.580.65.06", buffer, length); }

/* ---- which GPUs there are ---- */

Return nvmlDeviceGetCount_v2(unsigned *count) {
    if (!references) return UNINITIALIZED;
    *count = (unsigned)listed_count;
    return OK;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    Row row;
    if (!references) return UNINITIALIZED;
    if ((int)index >= listed_count) return INVALID_ARGUMENT;
    Device found = &handles[listed[index]];
    Return rc = copy_row(found->uuid, &row);
    if (rc == NOT_FOUND || (!rc && row.rc == GPU_IS_LOST)) return GPU_IS_LOST;
    *device = found;
    return rc;
}
Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    Row row;
    if (!references) return UNINITIALIZED;
    Return rc = copy_row(uuid, &row);
    if (!rc) *device = &handles[handle_of(uuid)];
    return rc;
}
Return nvmlDeviceGetIndex(Device device, unsigned *index) {
    Row row;
    Return rc = get_whole(device, "index", &row);
    for (int i = 0; !rc && i < listed_count; i++)
        if (&handles[listed[i]] == device) *index = (unsigned)i;
    return rc;
}
Return nvmlDeviceGetName(Device device, char *buffer, unsigned length) {
    Row row;
    Return rc = get(device, "name", &row);
    return rc ? rc : text(row.name, buffer, length);
}
Return nvmlDeviceGetUUID(Device device, char *buffer, unsigned length) {
    Row row;
    Return rc = get(device, "uuid", &row);
    return rc ? rc : text(row.uuid, buffer, length);
}
Return nvmlDeviceGetPciInfo_v3(Device device, Pci *pci) {
    Row row;
    Return rc = get(device, "pci", &row);
    if (rc) return rc;
    memset(pci, 0, sizeof *pci);
    pci->bus = (unsigned)row.bus;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return OK;
}

/* Of what one GPU can do with another's memory only NVLink is told, and nothing of those in no group. */
Return nvmlDeviceGetP2PStatus(Device device, Device other, int index, int *status) {
    Row row, beside;
    Return rc = get_whole(device, "p2p", &row);
    if (!rc) rc = get_whole(other, "p2p", &beside);
    if (rc) return rc;
    if (index != P2P_NVLINK || row.link_group < 0 || beside.link_group < 0) return NOT_SUPPORTED;
    *status = row.link_group == beside.link_group ? P2P_OK : P2P_NOT_SUPPORTED;
    return OK;
}

/* ---- MIG ---- */

#ifndef WITHOUT_nvmlDeviceGetMigMode
Return nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    Row row;
    Return rc = get_whole(device, "mig", &row);
    if (!rc) *current = *pending = row.mig != 0;
    return rc;
}
#endif
Return nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    Row row;
    Return rc = get_whole(device, "mig", &row);
    if (!rc) *count = row.mig ? 7 : 0;
    return rc;
}
Return nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *mig) {
    Row row;
    Return rc = get_whole(device, "mig", &row);
    if (rc) return rc;
    rc = copy_mig(device->uuid, index, &row);
    if (!rc) *mig = &handles[handle_of(row.uuid)];
    return rc;
}
Return nvmlDeviceGetGpuInstanceId(Device device, unsigned *id) {
    Row row;
    Return rc = get(device, "mig", &row);
    if (rc || row.parent < 0) return rc ? rc : NOT_SUPPORTED;
    *id = (unsigned)row.instance;
    return OK;
}
Return nvmlDeviceGetAttributes_v2(Device device, Attributes *attributes) {
    Row row;
    Return rc = get(device, "attributes", &row);
    if (rc || row.parent < 0) return rc ? rc : NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->gpu_slices = (unsigned)row.gpu_slices;
    attributes->compute_slices = (unsigned)row.compute_slices;
    attributes->memory_mib = row.total_mib;
    return OK;
}

/* ---- readings ---- */

Return nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    Row row;
    Return rc = get_whole(device, "utilization", &row);
    if (!rc) *rates = (Utilization){(unsigned)row.util, (unsigned)row.mem_util};
    return rc;
}
Return nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    Row row;
    Return rc = get(device, "memory", &row);
    if (!rc) *memory = (Memory){row.total_mib << 20, (row.total_mib - row.used_mib) << 20, row.used_mib << 20};
    return rc;
}
#ifndef WITHOUT_nvmlDeviceGetMemoryInfo_v2
Return nvmlDeviceGetMemoryInfo_v2(Device device, Memory2 *memory) {
    Row row;
    Return rc = get(device, "memory", &row);
    if (rc) return rc;
    if (memory->version != (sizeof *memory | 2u << 24)) return VERSION_MISMATCH;
    memory->total = row.total_mib << 20;
    memory->reserved = 0;
    memory->used = row.used_mib << 20;
    memory->free = memory->total - memory->used;
    return OK;
}
#endif
Return nvmlDeviceGetPowerUsage(Device device, unsigned *milliwatts) {
    Row row;
    Return rc = get_whole(device, "power", &row);
    if (!rc) *milliwatts = (unsigned)row.milliwatts;
    return rc;
}
Return nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    Row row;
    Return rc = get_whole(device, "temperature", &row);
    if (rc || sensor) return rc ? rc : INVALID_ARGUMENT;
    *celsius = (unsigned)row.celsius;
    return OK;
}
Return nvmlDeviceGetClockInfo(Device device, int kind, unsigned *mhz) {
    Row row;
    Return rc = get_whole(device, "clocks", &row);
    if (rc || (kind != 1 && kind != 2)) return rc ? rc : INVALID_ARGUMENT; /* SM, memory */
    *mhz = (unsigned)(kind == 1 ? row.sm_clock : row.mem_clock);
    return OK;
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *reasons) {
    Row row;
    Return rc = get_whole(device, "throttle", &row);
    if (!rc) *reasons = row.reasons;
    return rc;
}
#ifndef WITHOUT_nvmlDeviceGetCurrentClocksEventReasons
Return nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}
#endif
#ifndef WITHOUT_nvmlDeviceGetTotalEccErrors
Return nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *count) {
    Row row;
    Return rc = get_whole(device, "ecc", &row);
    if (rc) return rc;
    *count = counter ? 0 : kind ? row.ecc : row.ecc_corrected; /* volatile; 1 is uncorrected */
    return OK;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetRemappedRows
Return nvmlDeviceGetRemappedRows(Device device, unsigned *corrected, unsigned *uncorrected,
                                 unsigned *pending, unsigned *failed) {
    Row row;
    Return rc = get_whole(device, "remapped_rows", &row);
    if (rc) return rc;
    *corrected = *uncorrected = 0;
    *pending = (unsigned)row.remap_pending;
    *failed = (unsigned)row.remap_failed;
    return OK;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetPcieThroughput
Return nvmlDeviceGetPcieThroughput(Device device, int counter, unsigned *kb_per_s) {
    Row row;
    Return rc = get_whole(device, "pcie", &row);
    if (!rc) *kb_per_s = (unsigned)(counter ? row.pcie_rx : row.pcie_tx);
    return rc;
}
#endif
Return nvmlDeviceGetFieldValues(Device device, int count, Field *fields) {
    Row row;
    Return rc = get_whole(device, "fields", &row);
    for (int i = 0; !rc && i < count; i++) {
        int known = fields[i].field == FIELD_LINK_TX || fields[i].field == FIELD_LINK_RX;
        fields[i].time = (long long)now_us();
        fields[i].type = 3; /* unsigned long long */
        fields[i].value = fields[i].field == FIELD_LINK_TX ? row.link_tx_kib : row.link_rx_kib;
        fields[i].rc = !known || lists(row.unsupported, "nvlink") ? NOT_SUPPORTED : OK;
    }
    return rc;
}

/* ---- processes: they share the GPU's memory and time alike ---- */

#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    Row row;
    Return rc = get(device, "processes", &row);
    if (rc) return rc;
    unsigned room = processes ? *count : 0;
    *count = row.pid_count;
    if (row.pid_count > room) return INSUFFICIENT_SIZE;
    int hidden = lists(row.unsupported, "process_memory");
    for (unsigned i = 0; i < row.pid_count; i++)
        processes[i] = (Process){row.pids[i], hidden ? ~0ull : (row.used_mib << 20) / row.pid_count, NOBODY, NOBODY};
    return OK;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetProcessUtilization
/* A sample is as old as `process_time`, in microseconds; 0: it is taken now. */
Return nvmlDeviceGetProcessUtilization(Device device, ProcessSample *samples, unsigned *count,
                                       unsigned long long last_seen) {
    Row row;
    Return rc = get_whole(device, "process_utilization", &row);
    if (rc) return rc;
    unsigned long long time = row.process_time ? row.process_time : now_us();
    if (!row.pid_count || time <= last_seen) return NOT_FOUND;
    unsigned room = samples ? *count : 0;
    *count = row.pid_count;
    if (row.pid_count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < row.pid_count; i++)
        samples[i] = (ProcessSample){row.pids[i], time, (unsigned)(row.util / row.pid_count), 0, 0, 0};
    return OK;
}
#endif

/* ---- GPM ---- */

#ifndef WITHOUT_nvmlGpmQueryDeviceSupport
Return nvmlGpmQueryDeviceSupport(Device device, GpmSupport *support) {
    Row row;
    Return rc = get_whole(device, "gpm_query", &row);
    if (rc || support->version != 1) return rc ? rc : VERSION_MISMATCH;
    support->supported = !lists(row.unsupported, "gpm");
    return OK;
}
#endif
/* How many samples are not freed yet, for tests; no part of NVML. */
int nvmlStubLiveSamples(void) { return live_samples; }

#ifndef WITHOUT_nvmlGpmSampleAlloc
Return nvmlGpmSampleAlloc(Sample **sample) {
    *sample = calloc(1, sizeof **sample);
    if (*sample) live_samples++;
    return *sample ? OK : INSUFFICIENT_SIZE;
}
#endif
Return nvmlGpmSampleFree(Sample *sample) {
    if (sample) live_samples--;
    free(sample);
    return OK;
}
Return nvmlGpmSampleGet(Device device, Sample *sample) {
    Return rc = get_whole(device, "gpm", &sample->row);
    sample->filled = !rc;
    return rc;
}
Return nvmlGpmMigSampleGet(Device device, unsigned instance, Sample *sample) {
    Row parent;
    Return rc = get_whole(device, "gpm", &parent);
    for (unsigned i = 0; !rc && !(rc = copy_mig(device->uuid, i, &sample->row));)
        if (sample->row.instance == instance) break; else i++;
    sample->filled = !rc;
    return rc;
}
Return nvmlGpmMetricsGet(Metrics *asked) {
    if (asked->version != 1) return VERSION_MISMATCH;
    if (!asked->first->filled || !asked->second->filled) return INVALID_ARGUMENT;
    const Row *row = &asked->second->row;
    for (unsigned i = 0; i < asked->count; i++) {
        Metric *metric = &asked->metrics[i];
        int link = metric->id == LINK_RX || metric->id == LINK_TX;
        metric->rc = link && lists(row->unsupported, "nvlink") ? NOT_SUPPORTED : OK;
        switch (metric->id) {
        case SM_UTIL: metric->value = row->sm; break;
        case TENSOR_UTIL: metric->value = row->tensor; break;
        case DRAM_UTIL: metric->value = row->dram; break;
        case PCIE_TX: metric->value = row->gpm_pcie_tx; break;
        case PCIE_RX: metric->value = row->gpm_pcie_rx; break;
        case LINK_RX: metric->value = row->gpm_link_rx; break;
        case LINK_TX: metric->value = row->gpm_link_tx; break;
        default: metric->rc = NOT_SUPPORTED;
        }
    }
    return OK;
}

/* ---- events ---- */

Return nvmlEventSetCreate(void **set) {
    if (!references) return UNINITIALIZED;
    *set = calloc(1, sizeof(EventSet));
    return *set ? OK : INSUFFICIENT_SIZE;
}
Return nvmlEventSetFree(void *set) {
    free(set);
    return OK;
}
Return nvmlDeviceRegisterEvents(Device device, unsigned long long types, void *opaque) {
    EventSet *set = opaque;
    Row row;
    Return rc = get_whole(device, "events", &row);
    if (rc || !(types & XID_EVENT) || set->count == MAX_ROWS) return rc;
    strcpy(set->uuid[set->count], device->uuid);
    set->seen[set->count++] = row.xid;
    return OK;
}
/* Finds a registered GPU whose xid has changed to another number than 0. */
static int news(EventSet *set, Row *row) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int r = 0, count = refresh(); r < count && !found; r++)
        for (int i = 0; i < set->count && !found; i++) {
            if (strcmp(set->uuid[i], rows[r].uuid) || rows[r].xid == set->seen[i]) continue;
            set->seen[i] = rows[r].xid;
            if ((found = rows[r].xid != 0)) *row = rows[r];
        }
    pthread_mutex_unlock(&lock);
    return found;
}
Return nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout_ms) {
    Row row;
    for (unsigned waited = 0;; waited += WAIT_STEP_US / 1000) {
        if (news(set, &row)) {
            *event = (Event){&handles[handle_of(row.uuid)], XID_EVENT, row.xid, (unsigned)row.xid_instance, NOBODY};
            return OK;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        usleep(WAIT_STEP_US);
    }
}
