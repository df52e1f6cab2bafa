/* The models of the tests, each between NAME and NAME_end. The build defines DIGITS and SMALL, their paths. */
    .global digits, digits_end, small, small_end
    .section .rodata.digits, "a"
    .balign 16
digits:
    .incbin DIGITS
digits_end:
    .byte 0
    .section .rodata.small, "a"
    .balign 16
small:
    .incbin SMALL
small_end:
    .byte 0
#ifdef __linux__
    .section .note.GNU-stack, "", %progbits
#endif
