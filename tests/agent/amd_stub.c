/* The part of libamd_smi.so that the agent asks for, through AMD's own binding (amdsmi 7.0). Two GPUs:
 * the first is at work, the second answers NOT_FOUND to all but its names, as one that is gone. What
 * the binding wants besides is added by `test_gpu_amdsmi.py`, and supports nothing. */
#include <stdint.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 2, NOT_FOUND = 31 };
static char cards[2];
#define GONE(card) do { if ((card) == &cards[1]) return NOT_FOUND; } while (0)

int amdsmi_init(uint64_t flags) { (void)flags; return OK; }
int amdsmi_shut_down(void) { return OK; }
int amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
    *count = 1;
    if (sockets) sockets[0] = cards;
    return OK;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **found) {
    (void)socket;
    *count = 2;
    for (int i = 0; found && i < 2; i++) found[i] = &cards[i];
    return OK;
}
int amdsmi_get_gpu_device_bdf(char *card, uint64_t *bdf) {
    *bdf = (uint64_t)(0x0c + (card - cards)) << 8;
    return OK;
}
int amdsmi_get_gpu_enumeration_info(char *card, uint32_t *ids) {
    ids[3] = (uint32_t)(1 - (card - cards)); /* ROCm counts the other way round */
    strcpy((char *)(ids + 4), card == cards ? "GPU-aaaa" : "GPU-bbbb");
    return OK;
}
int amdsmi_get_gpu_asic_info(char *card, char *asic) {
    (void)card;
    strcpy(asic, "AMD Instinct MI300X");
    return OK;
}
int amdsmi_get_gpu_driver_info(char *card, char *driver) {
    (void)card;
    strcpy(driver, "6.12.12");
    return OK;
}
int amdsmi_get_gpu_activity(char *card, uint32_t *percent) {
    GONE(card);
    percent[0] = 37;
    percent[1] = 0xFFFF; /* not told */
    return OK;
}
int amdsmi_get_gpu_vram_usage(char *card, uint32_t *mib) {
    GONE(card);
    mib[0] = 196592;
    mib[1] = 40000;
    return OK;
}
int amdsmi_get_power_info(char *card, uint32_t *watts) {
    GONE(card);
    watts[2] = 350;
    watts[3] = 0xFFFF;
    return OK;
}
int amdsmi_get_temp_metric(char *card, int kind, int metric, int64_t *celsius) {
    GONE(card);
    *celsius = 55;
    return kind == 1 && metric == 0 ? OK : NOT_SUPPORTED; /* the hotspot, now */
}
int amdsmi_get_clock_info(char *card, int kind, uint32_t *mhz) {
    GONE(card);
    mhz[0] = kind == 0 ? 2100 : 1300;
    return OK;
}
int amdsmi_get_gpu_total_ecc_count(char *card, uint64_t *counts) {
    GONE(card);
    counts[0] = 7;
    counts[1] = 2;
    return OK;
}
int amdsmi_get_gpu_process_list(char *card, uint32_t *count, char *processes) {
    GONE(card);
    *count = 1;
    *(uint32_t *)(processes + 256) = 101;
    *(uint64_t *)(processes + 336 + 16) = 20000ull << 20; /* VRAM, in bytes */
    return OK;
}
