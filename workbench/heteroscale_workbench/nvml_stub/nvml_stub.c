/* A stand-in for libnvidia-ml.so.1, for machines without a GPU: the part of NVML's ABI that the
 * agent (and nvidia-ml-py around it) uses. Every value comes from a text file, named by
 * HETEROSCALE_NVML_STUB_STATE and read again when it changes; `state.py` writes it. One GPU a line,
 * in columns:
 *
 *   uuid name util mem_util mem_used_mib mem_total_mib milliwatts celsius ecc rc xid delay_ms
 *   unsupported pids
 *
 * `_` in a name is a space, `-` is an empty list; `unsupported` and `pids` are comma-separated.
 * rc is the nvmlReturn_t that every call about the GPU gives (0 success, 15 lost, 999 unknown).
 * Compiled with -DWITHOUT_<function>, that function is missing, as from an older driver.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
};
enum { MAX_GPUS = 64, MAX_PIDS = 64, XID_EVENT = 8, WAIT_STEP_US = 10000 };

typedef int Return;
typedef struct device { int index; } *Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} Pci;
typedef struct { Device device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { unsigned long long types[MAX_GPUS]; unsigned seen_xid[MAX_GPUS]; } EventSet;

typedef struct {
    char uuid[96], name[96], unsupported[256];
    unsigned util, mem_util, milliwatts, celsius, xid, delay_ms, pids[MAX_PIDS], pid_count;
    unsigned long long used_mib, total_mib, ecc;
    int rc;
} Row;

static struct device devices[MAX_GPUS];
static int references;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Row rows[MAX_GPUS];
static int row_count = -1; /* -1: no state file, as if no driver were loaded */
static struct stat last_stat;

static void parse_pids(const char *list, Row *row) {
    char *end;
    for (row->pid_count = 0; *list >= '0' && *list <= '9' && row->pid_count < MAX_PIDS; list = end) {
        row->pids[row->pid_count++] = (unsigned)strtoul(list, &end, 10);
        if (*end == ',') end++;
    }
}

static int parse_line(const char *line, Row *row) {
    char pids[1024];
    memset(row, 0, sizeof *row);
    int found = sscanf(line, "%95s %95s %u %u %llu %llu %u %u %llu %d %u %u %255s %1023s", row->uuid,
                       row->name, &row->util, &row->mem_util, &row->used_mib, &row->total_mib,
                       &row->milliwatts, &row->celsius, &row->ecc, &row->rc, &row->xid,
                       &row->delay_ms, row->unsupported, pids);
    if (line[0] == '#' || found != 14) return 0;
    for (char *c = row->name; *c; c++) if (*c == '_') *c = ' ';
    parse_pids(pids, row);
    return 1;
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
    char line[2048];
    for (row_count = 0; row_count < MAX_GPUS && fgets(line, sizeof line, file);)
        row_count += parse_line(line, &rows[row_count]);
    fclose(file);
    last_stat = now;
    return row_count;
}

static int count_rows(void) {
    pthread_mutex_lock(&lock);
    int count = refresh();
    pthread_mutex_unlock(&lock);
    return count;
}

static int copy_row(int index, Row *row) {
    pthread_mutex_lock(&lock);
    int count = refresh();
    if (index >= 0 && index < count) *row = rows[index];
    pthread_mutex_unlock(&lock);
    return count;
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
    if (device < devices || device >= devices + MAX_GPUS) return INVALID_ARGUMENT;
    int count = copy_row(device->index, row);
    if (count < 0) return DRIVER_NOT_LOADED;
    if (device->index >= count) return GPU_IS_LOST;
    if (row->delay_ms) usleep(row->delay_ms * 1000);
    if (row->rc) return row->rc;
    return lists(row->unsupported, what) ? NOT_SUPPORTED : OK;
}

static Return text(const char *value, char *buffer, unsigned length) {
    if (strlen(value) >= length) return INSUFFICIENT_SIZE;
    strcpy(buffer, value);
    return OK;
}

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (count_rows() < 0) return DRIVER_NOT_LOADED;
    for (int i = 0; i < MAX_GPUS; i++) devices[i].index = i;
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

Return nvmlDeviceGetCount_v2(unsigned *count) {
    if (!references) return UNINITIALIZED;
    int found = count_rows();
    if (found < 0) return DRIVER_NOT_LOADED;
    *count = (unsigned)found;
    return OK;
}
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    Row row;
    if (!references) return UNINITIALIZED;
    int count = index < MAX_GPUS ? copy_row((int)index, &row) : 0;
    if (count < 0) return DRIVER_NOT_LOADED;
    if ((int)index >= count || index >= MAX_GPUS) return INVALID_ARGUMENT;
    if (row.rc == GPU_IS_LOST) return GPU_IS_LOST;
    *device = &devices[index];
    return OK;
}
Return nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    Row row;
    if (!references) return UNINITIALIZED;
    for (int i = 0, count = count_rows(); i < count; i++)
        if (copy_row(i, &row) > i && !strcmp(row.uuid, uuid)) return *device = &devices[i], OK;
    return NOT_FOUND;
}
Return nvmlDeviceGetIndex(Device device, unsigned *index) {
    Row row;
    Return rc = get(device, "index", &row);
    if (!rc) *index = (unsigned)device->index;
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
    pci->bus = (unsigned)device->index + 0x10;
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return OK;
}

Return nvmlDeviceGetUtilizationRates(Device device, Utilization *rates) {
    Row row;
    Return rc = get(device, "utilization", &row);
    if (!rc) *rates = (Utilization){row.util, row.mem_util};
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
    Return rc = get(device, "power", &row);
    if (!rc) *milliwatts = row.milliwatts;
    return rc;
}
Return nvmlDeviceGetTemperature(Device device, int sensor, unsigned *celsius) {
    Row row;
    Return rc = get(device, "temperature", &row);
    if (rc || sensor) return rc ? rc : INVALID_ARGUMENT;
    *celsius = row.celsius;
    return OK;
}
#ifndef WITHOUT_nvmlDeviceGetTotalEccErrors
Return nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *count) {
    Row row;
    Return rc = get(device, "ecc", &row);
    if (rc) return rc;
    *count = kind == 1 && counter == 0 ? row.ecc : 0; /* uncorrected, volatile */
    return OK;
}
#endif
#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *processes) {
    Row row;
    Return rc = get(device, "processes", &row);
    if (rc) return rc;
    unsigned room = processes ? *count : 0;
    *count = row.pid_count;
    if (row.pid_count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < row.pid_count; i++)
        processes[i] = (Process){row.pids[i], (row.used_mib << 20) / row.pid_count, ~0u, ~0u};
    return OK;
}
#endif

Return nvmlEventSetCreate(void **set) {
    if (!references) return UNINITIALIZED;
    *set = calloc(1, sizeof(EventSet));
    return *set ? OK : INSUFFICIENT_SIZE;
}
Return nvmlEventSetFree(void *set) {
    free(set);
    return OK;
}
Return nvmlDeviceRegisterEvents(Device device, unsigned long long types, void *set) {
    Row row;
    Return rc = get(device, "events", &row);
    if (rc) return rc;
    ((EventSet *)set)->types[device->index] = types;
    ((EventSet *)set)->seen_xid[device->index] = row.xid;
    return OK;
}
/* An event comes when the xid column of a registered GPU changes to another number than 0. */
Return nvmlEventSetWait_v2(void *opaque, Event *event, unsigned timeout_ms) {
    EventSet *set = opaque;
    Row row;
    for (unsigned waited = 0;; waited += WAIT_STEP_US / 1000) {
        for (int i = 0, count = count_rows(); i < count; i++) {
            if (!(set->types[i] & XID_EVENT) || copy_row(i, &row) <= i || row.xid == set->seen_xid[i])
                continue;
            set->seen_xid[i] = row.xid;
            if (!row.xid) continue;
            *event = (Event){&devices[i], XID_EVENT, row.xid, ~0u, ~0u};
            return OK;
        }
        if (waited >= timeout_ms) return TIMEOUT;
        usleep(WAIT_STEP_US);
    }
}
