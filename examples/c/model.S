/* The file MODEL as read-only data, aligned as a .mote file has to be. */
    .section .rodata.digits_mote, "a"
    .global digits_mote
    .global digits_mote_end
    .balign 16
digits_mote:
    .incbin MODEL
digits_mote_end:
    .byte 0
#ifdef __linux__ /* or its linker would make the stack executable */
    .section .note.GNU-stack, "", %progbits
#endif
